"""What a file really is, by its first bytes, and the form in which an image is stored."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from visionyard import events
from visionyard.transforms import IMAGE_MEDIA_TYPES, decode_image
from visionyard.transforms.images import open_image
from visionyard.video.retouching import Retouch

# Enough for the tar mark at 257 and three MPEG-TS packets of 188 bytes.
HEAD_BYTES = 1024
GIF = "image/gif"
PLAYLIST = "application/vnd.apple.mpegurl"
DECODED_IMAGE_TYPES = frozenset(IMAGE_MEDIA_TYPES.values())
ARCHIVE_TYPES = frozenset(
    {"application/zip", "application/x-tar", "application/gzip", "application/x-bzip2", "application/x-xz"}
)
EXTENSIONS: Mapping[str, tuple[str, ...]] = {
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "image/png": (".png", ".apng"),
    "image/bmp": (".bmp", ".dib"),
    "image/webp": (".webp",),
    "image/tiff": (".tif", ".tiff"),
    "image/gif": (".gif",),
    "image/heic": (".heic", ".heif"),
    "image/avif": (".avif",),
    "video/mp4": (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2"),
    "video/quicktime": (".mov", ".qt", ".mp4"),
    "video/x-msvideo": (".avi",),
    "video/x-matroska": (".mkv", ".mka", ".webm"),
    "video/webm": (".webm", ".mkv"),
    "video/mp2t": (".ts", ".m2ts", ".mts"),
    "video/mpeg": (".mpg", ".mpeg", ".vob", ".m2v"),
    "video/x-flv": (".flv",),
    "video/x-ms-asf": (".wmv", ".asf"),
    "video/ogg": (".ogv", ".ogg"),
    "video/x-yuv4mpeg": (".y4m",),
}
MEDIA_EXTENSIONS = frozenset(extension for extensions in EXTENSIONS.values() for extension in extensions)

_PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\0\0\0\x0cjP  ", "image/jp2"),
    (b"\0\0\0\x0cJXL ", "image/jxl"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"FLV\x01", "video/x-flv"),
    (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "video/x-ms-asf"),
    (b"OggS", "video/ogg"),
    (b"YUV4MPEG2", "video/x-yuv4mpeg"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"%PDF-", "application/pdf"),
    *((b"ID3" + bytes([version]), "audio/mpeg") for version in (2, 3, 4)),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"#EXTM3U", PLAYLIST),
)
_RIFF = {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo", b"WAVE": "audio/wav"}
_STILL_BRANDS = {
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"crx ": "image/x-canon-cr3",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
}
_QUICKTIME_ATOMS = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_XML_START = re.compile(rb"^(?:\xef\xbb\xbf)?\s*<(?:\?xml|!--|!DOCTYPE|annotations?\b)")
_TS_PACKET_BYTES = 188
_ORIENTATION_TAG = 0x0112
# Values of it that mirror the picture or turn it by 180 degrees, and those that turn it by 90.
_SAME_SIZE = {2, 3, 4}
_OTHER_SIZE = {5, 6, 7, 8}
_PNG_BIT_DEPTH_AT = 24
# As of frames, near lossless; with colour at full resolution.
_RETOUCHED_JPEG_QUALITY = 95


def sniff_media_type(head: bytes) -> str | None:
    """Return the media type that a file's first bytes show, whatever its name says.

    Args:
        head: The first `HEAD_BYTES` bytes, fewer for a shorter file.

    Returns:
        Such as `image/jpeg`, `video/mp4`, `application/zip`, `application/xml`; None when they show none that matters.
    """
    for prefix, media_type in _PREFIXES:
        if head.startswith(prefix):
            return media_type
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _STILL_BRANDS.get(head[8:12], "video/mp4")
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head[4:8] in _QUICKTIME_ATOMS:
        return "video/quicktime"
    if head[257:262] == b"ustar":
        return "application/x-tar"
    return _sniff_weak_marks(head)


def _sniff_weak_marks(head: bytes) -> str | None:
    # "BM" begins many a text: the header's length and its zero bytes make it a bitmap.
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[15:18] == b"\0\0\0":
        return "image/bmp"
    for start in (0, 4):  # m2ts puts a time stamp of four bytes before each packet
        step = _TS_PACKET_BYTES + start
        if len(head) > start + 2 * step and all(head[start + i * step] == 0x47 for i in range(3)):
            return "video/mp2t"
    return "application/xml" if _XML_START.match(head) else None


def is_clip_type(media_type: str | None) -> bool:
    """Return whether a source of clips takes it: any video, and GIF, since there it is an animation."""
    return media_type is not None and (media_type.startswith("video/") or media_type == GIF)


def is_image_type(media_type: str | None) -> bool:
    """Return whether it is a picture, of a format we decode or not; GIF is one, by its first frame."""
    return media_type is not None and media_type.startswith("image/")


def extension_differs(file: str, media_type: str) -> bool:
    """Return whether a file's name claims another type than its bytes show; no extension claims nothing."""
    extension = PurePosixPath(file).suffix.lower()
    return bool(extension) and media_type in EXTENSIONS and extension not in EXTENSIONS[media_type]


@dataclass(frozen=True)
class StoredImage:
    """An image as it goes into a shard.

    Attributes:
        data: The encoded file; the original's bytes, or PNG.
        extension: `.jpg` or `.png`.
        width: Pixels, as displayed.
        height: Pixels, as displayed.
        is_reencoded: Whether the bytes are not the original's.
        is_turned_unseen: Whether EXIF turned the original in a way that leaves its size as it was, so that nothing
            shows whether a mask beside it is turned too.
        hidden_count: Regions that were hidden in it.
    """

    data: bytes
    extension: str
    width: int
    height: int
    is_reencoded: bool
    is_turned_unseen: bool = False
    hidden_count: int = 0


def stored_image(data: bytes, retouch: Retouch | None = None) -> StoredImage:
    """Decode an image to prove that it can be, and return the form in which every later reader sees the same pixels.

    Plain images (8-bit RGB or grey, JPEG or PNG, upright, one frame) are kept byte for byte. Where decoders could
    disagree (EXIF orientation, CMYK, 16 bits, transparency, palette, animation, other formats) what `decode_image` sees
    is stored as RGB PNG. An image in which something is hidden is encoded anew, a plain JPEG as JPEG: what the file
    holds beside its pixels, a small picture in EXIF for instance, is left behind.

    Args:
        data: The encoded file.
        retouch: Hides what must not be seen; None leaves all.

    Raises:
        MediaError: The image cannot be decoded; says why.
    """
    pixels, hidden_count = decode_image(data), 0
    if retouch is not None:
        pixels, hidden_count = retouch(pixels)
    height, width = pixels.shape[:2]
    image = open_image(data)
    # Of a PNG, Pillow reads the pixels first: its EXIF may stand behind them.
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    is_turned_unseen = orientation in _SAME_SIZE or (orientation in _OTHER_SIZE and width == height)
    extension = _plain_extension(image, data, is_upright=orientation == 1)
    if extension is not None and not hidden_count:
        return StoredImage(data, extension, width, height, is_reencoded=False)
    encoded = io.BytesIO()
    if extension == ".jpg":
        Image.fromarray(pixels).save(encoded, "JPEG", quality=_RETOUCHED_JPEG_QUALITY, subsampling="4:4:4")
    else:
        extension = ".png"
        Image.fromarray(pixels).save(encoded, format="PNG")
    return StoredImage(encoded.getvalue(), extension, width, height, True, is_turned_unseen, hidden_count)


def warn_of_nothing_hidden(image_count: int, hidden_count: int) -> None:
    """Warn when there were images and nothing was hidden in any."""
    if image_count and not hidden_count:
        events.warn(
            f"nothing was hidden in any of {image_count} images: the detector of frames.anonymize found nothing; look "
            "at some of them, and lower frames.anonymize.confidence if there is something to hide"
        )


def _plain_extension(image: Image.Image, data: bytes, *, is_upright: bool) -> str | None:
    is_animated = getattr(image, "is_animated", False)
    if image.mode not in {"RGB", "L"} or not is_upright or is_animated or "transparency" in image.info:
        return None
    if image.format == "JPEG":
        return ".jpg"
    has_8_bits = data[_PNG_BIT_DEPTH_AT] == 8
    return ".png" if image.format == "PNG" and has_8_bits else None
