"""Leaks: what of one split can be seen in another; near-duplicates, the groups they make, and the certificate."""
