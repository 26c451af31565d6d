"""Pictures of a dataset's images, small enough to stand inside the page."""

from collections.abc import Sequence

from PIL import Image

from visionyard.data.dataset import Dataset, Sample
from visionyard.pages import data_uris


def thumbnails(dataset: Dataset, samples: Sequence[Sample], *, budget_bytes: int) -> list[str]:
    """Return one picture a sample as data URI, as `visionyard.pages.data_uris` makes them.

    Args:
        dataset: Where the images lie.
        samples: Which; each is decoded once, one at a time.
        budget_bytes: Of all data URIs together; passed only when the smallest side is still too large.

    Raises:
        DataError: An image cannot be decoded.
    """
    return data_uris((Image.fromarray(dataset.image(sample)) for sample in samples), budget_bytes=budget_bytes)
