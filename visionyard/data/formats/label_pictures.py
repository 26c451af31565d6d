"""Pictures whose numbers or colours are classes: decoded as they are stored, and turned into class ids."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visionyard.data.class_masks import UNLABELLED_ID, ids_present, row_parts
from visionyard.errors import MediaError
from visionyard.transforms.images import open_image, read_levels

MAX_LEVEL = 65535
# Pixels of these formats come back as they were written.
_LOSSLESS = {"PNG", "BMP", "GIF", "TIFF"}
_LOSSY_TIFF = {"jpeg", "tiff_jpeg", "webp"}
# As Pillow names them: one bit, grey, palette, 16 and 32 bits of grey, colour; some with transparency.
_MODES = ("1", "L", "P", "I", "RGB")
_COLOUR_COUNT = 1 << 24
_SHOWN = 5
# Of a photograph taken for a mask each pixel may have a colour of its own: enough of them are enough.
_MOST_UNKNOWN = 1000

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelPicture:
    """A picture of labels as it is stored.

    Attributes:
        levels: (H, W) grey levels or palette indices, or (H, W, 3) uint8 colours.
        palette: (P, 3) uint8 colours of the indices; None when `levels` are no indices.
    """

    levels: np.ndarray
    palette: np.ndarray | None = None

    @classmethod
    def decode(cls, data: bytes) -> "LabelPicture":
        """Read an encoded picture of labels.

        Raises:
            MediaError: It cannot be decoded, has no whole numbers, or is of a format that changes pixels.
        """
        image = open_image(data)
        if image.format not in _LOSSLESS or image.info.get("compression") in _LOSSY_TIFF:
            raise MediaError(
                f"labels as {image.format}, which may change pixels and so invent classes; save them as PNG from the "
                "original"
            )
        if not image.mode.startswith(_MODES):
            raise MediaError(f"its pixels are {image.mode}, expected grey levels, palette indices or RGB")
        levels = read_levels(image)
        if levels.ndim == 3:
            # Grey with transparency, or colour with it: what is seen through is labelled all the same.
            return cls(levels[..., 0] if levels.shape[2] == 2 else levels[..., :3])
        if image.mode == "P":
            flat = (image.getpalette("RGB") or [])[: 3 * 256]
            return cls(levels, np.array(flat, np.uint8).reshape(-1, 3))
        if image.format == "PNG" and image.mode == "L":
            # Pillow stretches grey levels of two or four bits over the range of eight.
            levels = levels // {2: 85, 4: 17}.get(data[24], 1)
        if levels.size and not 0 <= int(levels.min()) <= int(levels.max()) <= MAX_LEVEL:
            raise MediaError(f"its grey levels lie in [{levels.min()}, {levels.max()}], expected [0, {MAX_LEVEL}]")
        return cls(levels)

    @property
    def has_channels(self) -> bool:
        """Whether a pixel is red, green and blue."""
        return self.levels.ndim == 3

    def as_grey(self) -> "LabelPicture | None":
        """Return the picture as grey levels or indices; None when it is in colour."""
        if not self.has_channels:
            return self
        is_grey = bool((self.levels == self.levels[..., :1]).all())
        return LabelPicture(self.levels[..., 0]) if is_grey else None


@dataclass(frozen=True)
class ClassMap:
    """Which class each number and each colour stands for.

    Attributes:
        classes: Names in the order of the class ids.
        numbers: From grey level or palette index to class id.
        colours: To class id; empty when colours mean nothing.
    """

    classes: tuple[str, ...]
    numbers: Mapping[int, int]
    colours: Mapping[Colour, int]

    @cached_property
    def _number_table(self) -> np.ndarray:
        table = np.full(MAX_LEVEL + 1, UNLABELLED_ID, np.uint8)
        table[list(self.numbers)] = list(self.numbers.values())
        return table

    @cached_property
    def _colour_table(self) -> np.ndarray:
        # 16 MiB, made once: looking a pixel up takes a tenth of the time that sorting all of them does.
        table = np.full(_COLOUR_COUNT, UNLABELLED_ID, np.uint8)
        if self.colours:
            table[_packed(np.array(list(self.colours), np.uint8))] = list(self.colours.values())
        return table

    def class_ids(self, picture: LabelPicture) -> tuple[np.ndarray, str]:
        """Return the class of each pixel.

        Returns:
            (H, W) uint8, `UNLABELLED_ID` where the map knows no class; and which values it does not know, empty when it
            knows all. The number 255 may be unknown without a word: it is what tools write where nobody said.

        Raises:
            MediaError: The picture is in colour and the map has none.
        """
        if picture.has_channels and self.colours:
            return _class_ids(self._colour_table, picture.levels, _packed)
        grey = picture.as_grey()
        if grey is None:
            raise MediaError("it is in colour, and no class map says what its colours are; add one with r, g, b")
        table = self._number_table
        if grey.palette is not None and self.colours:
            table = self._palette_table(grey.levels, grey.palette)
        return _class_ids(table, grey.levels, None)

    def _palette_table(self, indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
        """Return the class of each index by its colour, or by its number where colours do not explain all there are."""
        by_colour = np.full(UNLABELLED_ID + 1, UNLABELLED_ID, np.uint8)
        by_colour[: len(palette)] = self._colour_table[_packed(palette)]
        is_explained = all(by_colour[index] != UNLABELLED_ID for index in ids_present(indices))
        return by_colour if is_explained or not self.numbers else self._number_table


def _class_ids(
    table: np.ndarray, levels: np.ndarray, indices_of: Callable[[np.ndarray], np.ndarray] | None
) -> tuple[np.ndarray, str]:
    """Look each pixel up, block by block, and say which values stand for no class."""
    ids = np.empty(levels.shape[:2], np.uint8)
    unknown: Counter[int] = Counter()
    for part, target in zip(row_parts(levels), row_parts(ids), strict=True):
        indices = indices_of(part) if indices_of else part
        target[...] = table[indices]
        if len(unknown) < _MOST_UNKNOWN:
            values, counts = np.unique(indices[target == UNLABELLED_ID], return_counts=True)
            unknown.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    if indices_of is None:
        unknown.pop(UNLABELLED_ID, None)
    return ids, _unknown_text(unknown, is_colour=indices_of is not None)


def _packed(colours: np.ndarray) -> np.ndarray:
    """Return (..., 3) uint8 colours as (...) numbers 0xRRGGBB."""
    channels = colours.astype(np.int32)
    packed: np.ndarray = (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]
    return packed


def _unknown_text(unknown: Counter[int], *, is_colour: bool) -> str:
    shown = [
        f"{colour_text((value >> 16, value >> 8 & 255, value & 255)) if is_colour else value} on {count} pixels"
        for value, count in sorted(unknown.items())[:_SHOWN]
    ]
    return ", ".join(shown) + (" and other values" if len(unknown) > _SHOWN else "")


def colour_text(colour: Colour) -> str:
    """Return a colour as a class map file has it: `r,g,b`."""
    return ",".join(str(channel) for channel in colour)
