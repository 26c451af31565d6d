"""Reading a dataset version where it lies, in an order made for it, with the local disk as a cache."""

from visionyard.data.streaming.image_files import place_images
from visionyard.data.streaming.node_cache import NodeCache
from visionyard.data.streaming.order import epoch_order, share
from visionyard.data.streaming.streamed import StreamedDataset, open_dataset

__all__ = ["NodeCache", "StreamedDataset", "epoch_order", "open_dataset", "place_images", "share"]
