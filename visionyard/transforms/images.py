"""Decode an image the one way that training, validation, export, benchmark and serving share."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from visionyard.errors import MediaError

# Larger than any camera's picture (a 100-megapixel back is 100 MP), small enough to decode into 600 MB.
MAX_PIXEL_COUNT = 200_000_000
# What is decoded: formats with a safe, maintained decoder in Pillow. Names as Pillow gives them.
IMAGE_MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "BMP": "image/bmp",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
}


def load_image(path: Path) -> np.ndarray:
    """Read and decode an image file; see `decode_image`.

    Raises:
        MediaError: The file cannot be read or decoded; names the file.
    """
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from None


def decode_image(data: bytes, *, max_pixel_count: int = MAX_PIXEL_COUNT) -> np.ndarray:
    """Decode an encoded image into RGB as a person would see it.

    EXIF orientation is applied; grey, palette and CMYK become RGB; transparency is laid over white, as viewers and
    browsers show it; 16-bit grey is divided by 257 to 8 bits; of an animation the first frame is taken.

    Args:
        data: The encoded file.
        max_pixel_count: Refuse larger images before decoding them (decompression bombs).

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        MediaError: Not an image, truncated, of a format we do not read, or larger than `max_pixel_count`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of bombs and odd metadata; the size is checked here
            image = Image.open(io.BytesIO(data), formats=tuple(IMAGE_MEDIA_TYPES))
            if image.width * image.height > max_pixel_count:
                raise MediaError(
                    f"the image is {image.width}x{image.height} px; at most {max_pixel_count} pixels are decoded; "
                    "scale it down first"
                )
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise MediaError("not an image of a known format (JPEG, PNG, WebP, BMP, TIFF, GIF)") from None
    except Image.DecompressionBombError as error:
        raise MediaError(f"refused as a decompression bomb: {error}") from None
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, OverflowError) as error:
        raise MediaError(f"the image cannot be decoded: {error}; it may be truncated") from None


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.uint32)
        return np.repeat((np.clip(grey, 0, 65535) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))
