"""Hide faces, licence plates and the like in pictures before they are written, found by a detector of any make.

Nothing heavy is imported here: a stage that hides nothing pays nothing.
"""

from visionyard.anonymization.opening import input_addresses, open_anonymizing, parse_anonymize

__all__ = ["input_addresses", "open_anonymizing", "parse_anonymize"]
