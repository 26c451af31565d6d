"""Look at labelled images: numbers, a page, and what differs between two sets."""

from visionyard.data.inspection.counting import inspect_images
from visionyard.data.inspection.statistics import Inspection

__all__ = ["Inspection", "inspect_images"]
