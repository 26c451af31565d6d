"""Read and decode the images of a source and their semantic masks, a few ahead of the one that is packed."""

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from visionyard.data.class_masks import encode_class_mask, ids_present
from visionyard.data.formats.label_pictures import ClassMap, LabelPicture
from visionyard.data.formats.reading import SourceImage
from visionyard.data.formats.source_tree import SourceFile, SourceTree
from visionyard.data.items import Problem
from visionyard.data.media import StoredImage, stored_image
from visionyard.errors import MediaError
from visionyard.video.retouching import Retouch

# Two threads keep two cores busy with decoding; four images each are in memory, so that neither waits for the disk.
DECODE_THREADS = 2
_WINDOW = 8


@dataclass(frozen=True)
class LoadedMask:
    """A semantic mask as it goes into a shard.

    Attributes:
        data: PNG of class ids.
        class_ids: Those that it holds, ascending.
    """

    data: bytes
    class_ids: tuple[int, ...]


@dataclass(frozen=True)
class LoadedImage:
    """An image as it goes into a shard.

    Attributes:
        stored: The image.
        mask: Its semantic mask; None when it has none that can be used.
        problems: What was found wrong with the mask.
    """

    stored: StoredImage
    mask: LoadedMask | None = None
    problems: tuple[Problem, ...] = ()


def loaded_in_order(
    tree: SourceTree, images: Iterable[SourceImage], class_map: ClassMap | None, retouch: Retouch | None = None
) -> Iterator[tuple[SourceImage, "Future[LoadedImage]"]]:
    """Read and decode images in two threads; those whose future fails raise MediaError there.

    Args:
        tree: The source.
        images: Of it, in the order in which they are yielded.
        class_map: What the pictures of their `mask_file` mean.
        retouch: Hides what must not be seen in an image.
    """
    # Decoding switches Pillow's warnings off and on again, which two threads would do in each other's way.
    with warnings.catch_warnings(), ThreadPoolExecutor(DECODE_THREADS) as pool:
        warnings.simplefilter("ignore")
        window: deque[tuple[SourceImage, Future[LoadedImage]]] = deque()
        try:
            for image in images:
                window.append((image, pool.submit(_load, tree, image, class_map, retouch)))
                if len(window) == _WINDOW:
                    yield window.popleft()
            while window:
                yield window.popleft()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _load(tree: SourceTree, image: SourceImage, class_map: ClassMap | None, retouch: Retouch | None) -> LoadedImage:
    stored = stored_image(image.data() if image.data else tree.read_image(image.file), retouch)
    if image.mask_file is None or class_map is None:
        return LoadedImage(stored)
    try:
        mask, problems = _load_mask(tree, image.mask_file, class_map, stored)
    except MediaError as error:
        mask, problems = None, [_unlabelled("unreadable_mask", image.mask_file, str(error))]
    return LoadedImage(stored, mask, tuple(problems))


def _load_mask(
    tree: SourceTree, file: SourceFile, class_map: ClassMap, stored: StoredImage
) -> tuple[LoadedMask | None, list[Problem]]:
    if stored.is_turned_unseen:
        message = (
            "whether the mask is turned as its image's EXIF orientation says cannot be told; save the image upright"
        )
        return None, [_unlabelled("mask_of_turned_image", file, message)]
    ids, unknown = class_map.class_ids(LabelPicture.decode(tree.read_image(file)))
    if ids.shape != (stored.height, stored.width):
        message = (
            f"the mask is of {ids.shape[1]}x{ids.shape[0]} px, its image as displayed of {stored.width}x{stored.height}"
        )
        return None, [_unlabelled("mask_size_differs", file, message)]
    problems = []
    if unknown:
        message = f"no class is known for {unknown}; these pixels count as unlabelled"
        problems.append(Problem("unknown_mask_value", file.name, message))
    present = ids_present(ids)
    if not present:
        message = "the mask says of no pixel what it shows"
        return None, [*problems, _unlabelled("mask_without_classes", file, message)]
    return LoadedMask(encode_class_mask(ids), present), problems


def _unlabelled(code: str, file: SourceFile, message: str) -> Problem:
    return Problem(code, file.name, f"{message}; the image is kept as unlabelled")
