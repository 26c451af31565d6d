"""The stored label of a semantic segmentation: a PNG of its image's size whose grey levels are class ids.

Eight bits a pixel hold ids 0 to 254; 255 stands where nobody said what is there, as in Pascal VOC and Cityscapes.
"""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from visionyard.errors import MediaError
from visionyard.transforms.images import open_image, read_levels

UNLABELLED_ID = 255
MAX_CLASS_COUNT = UNLABELLED_ID
_PART_PIXELS = 1 << 20


def encode_class_mask(class_ids: np.ndarray) -> bytes:
    """Return (H, W) uint8 class ids as a PNG."""
    stream = io.BytesIO()
    Image.fromarray(class_ids).save(stream, "PNG")
    return stream.getvalue()


def decode_class_mask(data: bytes) -> np.ndarray:
    """Return the (H, W) uint8 class ids of a PNG that `encode_class_mask` made.

    Raises:
        MediaError: It is no such PNG, or cut short.
    """
    image = open_image(data)
    if (image.format, image.mode) != ("PNG", "L"):
        raise MediaError(
            f"the mask is a {image.format} of mode {image.mode}, expected a grey PNG whose levels are class ids"
        )
    return read_levels(image)


def ids_present(class_ids: np.ndarray) -> tuple[int, ...]:
    """Return the ids that a mask holds, ascending, without `UNLABELLED_ID`."""
    return tuple(int(class_id) for class_id in np.flatnonzero(pixel_counts(class_ids)) if class_id != UNLABELLED_ID)


def pixel_counts(class_ids: np.ndarray) -> np.ndarray:
    """Return (256,) int64: how many pixels of a mask have each id."""
    counts = np.zeros(UNLABELLED_ID + 1, np.int64)
    for part in row_parts(class_ids):
        counts += np.bincount(part.ravel(), minlength=UNLABELLED_ID + 1)
    return counts


def row_parts(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an image in blocks of whole rows, of about a million pixels each.

    What numpy indexes by or counts, it widens to eight bytes: of the largest image that would be 1.4 GB.
    """
    row_count = max(1, _PART_PIXELS // max(1, pixels.shape[1]))
    for start in range(0, len(pixels), row_count):
        yield pixels[start : start + row_count]


def looked_up(table: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return what a table has for each pixel: (H, W), of the table's type."""
    found = np.empty(levels.shape, table.dtype)
    for source, target in zip(row_parts(levels), row_parts(found), strict=True):
        target[...] = table[source]
    return found


def id_table(before: Sequence[str], after: Sequence[str]) -> np.ndarray:
    """Return what each id becomes when the classes do.

    Args:
        before: Names in the order of the old ids.
        after: Names in the order of the new ids.

    Returns:
        (256,) uint8 new ids; `UNLABELLED_ID` for a class that is left out and for an id that no class has.
    """
    new_ids = {name: class_id for class_id, name in enumerate(after)}
    table = np.full(UNLABELLED_ID + 1, UNLABELLED_ID, np.uint8)
    for class_id, name in enumerate(before):
        table[class_id] = new_ids.get(name, UNLABELLED_ID)
    return table
