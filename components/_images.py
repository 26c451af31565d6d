"""Names of the container images that stages run in; the prefix is chosen when a pipeline is compiled."""

import os

from visionyard import __version__

# Local runners warn when an image name lacks "python".
PREFIX = os.environ.get("VISIONYARD_IMAGE_PREFIX", "visionyard")
DATA_IMAGE = f"{PREFIX}/data-python:{__version__}"
TRAIN_IMAGE = f"{PREFIX}/train-python:{__version__}"
SERVE_IMAGE = f"{PREFIX}/serve-python:{__version__}"
