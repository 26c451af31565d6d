"""A small client of the model server: sync and async, over REST and gRPC."""

from visionyard.client.answers import Box, ClassifiedImage, ClassifiedRow, ClassScore, DetectedImage, ImageResult
from visionyard.client.async_client import AsyncClient
from visionyard.client.calls import Options
from visionyard.client.images import ImageLike
from visionyard.client.sync_client import Client

__all__ = [
    "AsyncClient",
    "Box",
    "ClassScore",
    "ClassifiedImage",
    "ClassifiedRow",
    "Client",
    "DetectedImage",
    "ImageLike",
    "ImageResult",
    "Options",
]
