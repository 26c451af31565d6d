"""Data: from files of any layout to an immutable dataset version, checked, leak-safe and packed into shards."""
