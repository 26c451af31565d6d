"""The stored label of a semantic segmentation: a PNG of its image's size whose grey levels are class ids.

Eight bits a pixel hold ids 0 to 254; 255 stands where nobody said what is there, as in Pascal VOC and Cityscapes.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from visionyard.errors import MediaError
from visionyard.transforms.images import open_image, read_levels

UNLABELLED_ID = 255
MAX_CLASS_COUNT = UNLABELLED_ID


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
    present = np.flatnonzero(np.bincount(class_ids.ravel(), minlength=UNLABELLED_ID + 1))
    return tuple(int(class_id) for class_id in present if class_id != UNLABELLED_ID)


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
