"""A decoder process that hides what a detector finds before a frame becomes a JPEG.

Started as `python -m visionyard.anonymization._child MEMORY_BYTES SETTINGS`; see `visionyard.video._child`.
"""

import sys

from visionyard.anonymization.anonymizer import Anonymizer, AnonymizerSettings
from visionyard.video._child import main

if __name__ == "__main__":
    main(lambda: Anonymizer(AnonymizerSettings.from_text(sys.argv[2])))
