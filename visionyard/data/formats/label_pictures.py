"""Pictures whose numbers or colours are classes: decoded as they are stored, and turned into class ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visionyard.data.class_masks import UNLABELLED_ID
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
            packed = _packed(picture.levels)
            ids = self._colour_table[packed]
            return ids, _unknown_text(packed[ids == UNLABELLED_ID], is_colour=True)
        grey = picture.as_grey()
        if grey is None:
            raise MediaError("it is in colour, and no class map says what its colours are; add one with r, g, b")
        picture, table = grey, self._number_table
        if picture.palette is not None and self.colours:
            by_palette = np.full(UNLABELLED_ID + 1, UNLABELLED_ID, np.uint8)
            by_palette[: len(picture.palette)] = self._colour_table[_packed(picture.palette)]
            used = np.unique(picture.levels)
            if not self.numbers or (by_palette[used[used != UNLABELLED_ID]] != UNLABELLED_ID).all():
                table = by_palette
        ids = table[picture.levels]
        unknown = picture.levels[(ids == UNLABELLED_ID) & (picture.levels != UNLABELLED_ID)]
        return ids, _unknown_text(unknown, is_colour=False)


def _packed(colours: np.ndarray) -> np.ndarray:
    """Return (..., 3) uint8 colours as (...) numbers 0xRRGGBB."""
    channels = colours.astype(np.int32)
    packed: np.ndarray = (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]
    return packed


def _unknown_text(unknown: np.ndarray, *, is_colour: bool) -> str:
    values, counts = np.unique(unknown, return_counts=True)
    shown = [
        f"{colour_text((value >> 16, value >> 8 & 255, value & 255)) if is_colour else value} on {count} pixels"
        for value, count in zip(values[:_SHOWN].tolist(), counts[:_SHOWN].tolist(), strict=True)
    ]
    return ", ".join(shown) + (f" and {len(values) - _SHOWN} more values" if len(values) > _SHOWN else "")


def colour_text(colour: Colour) -> str:
    """Return a colour as a class map file has it: `r,g,b`."""
    return ",".join(str(channel) for channel in colour)
