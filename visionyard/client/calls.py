"""A call as every protocol sends it: which model, which images, which parameters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict
from urllib.parse import urlsplit

from visionyard.client.images import ImageLike, SentImage, in_requests, to_sent
from visionyard.errors import ConfigError

# The server's own limits by default are 16 images and 20 MiB; multipart and protocol headers need some of it.
MAX_IMAGES = 8
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Call:
    """One request for predictions.

    Attributes:
        model: Its name on the server; empty: the only one there is.
        images: At least one.
        parameters: `confidence`, `iou`, `max_detections`, `top_k`, `masks`, those that were given.
    """

    model: str
    images: list[SentImage]
    parameters: Mapping[str, float | int | str] = field(default_factory=dict)


class Options(TypedDict, total=False):
    """What a call may say beside its images; what is left out or None is the model's own.

    Attributes:
        model: In place of the client's own.
        confidence: Lowest confidence of a box, in [0, 1]; as the next two for detections.
        iou: Boxes of a class that overlap more are one object, in (0, 1].
        max_detections: Most boxes an image.
        top_k: Most classes of a classified image.
        masks: How masks are written: `rle` (the default), `polygons` or `none`.
        downsize_px: Images whose longer side is longer are scaled to that and sent as JPEG; boxes come back in the
            pixels of the image given. Faster over slow networks, and a little less exact.
    """

    model: str
    confidence: float | None
    iou: float | None
    max_detections: int | None
    top_k: int | None
    masks: Literal["rle", "polygons", "none"] | None
    downsize_px: int | None


def to_calls(images: Iterable[ImageLike], options: Options, *, model: str) -> list[Call]:
    """Read and encode images, and divide them into calls that the server's limits allow.

    Args:
        images: In order.
        options: As the caller gave them.
        model: The client's own.

    Raises:
        ConfigError: An option or an image is not usable.
        MediaError: A file cannot be read.
    """
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise ConfigError(f"option {unknown[0]!r}: expected one of {', '.join(Options.__annotations__)}")
    downsize_px = options.get("downsize_px")
    sent = [to_sent(image, position=number, downsize_px=downsize_px) for number, image in enumerate(images)]
    asked: dict[str, float | int | str | None] = {
        "confidence": options.get("confidence"),
        "iou": options.get("iou"),
        "max_detections": options.get("max_detections"),
        "top_k": options.get("top_k"),
        "masks": options.get("masks"),
    }
    parameters = {name: value for name, value in asked.items() if value is not None}
    name = options.get("model") or model
    return [Call(name, part, parameters) for part in in_requests(sent, max_images=MAX_IMAGES, max_bytes=MAX_BYTES)]


@dataclass(frozen=True)
class ServerAddress:
    """Where the server is.

    Attributes:
        url: Without a slash at its end.
        is_grpc: Whether the scheme is grpc or grpcs.
        is_secure: Whether the scheme is https or grpcs.
        target: `host:port`.
    """

    url: str
    is_grpc: bool
    is_secure: bool
    target: str

    @classmethod
    def parse(cls, url: str) -> "ServerAddress":
        """Read an address.

        Raises:
            ConfigError: It is no http, https, grpc or grpcs address with a host; grpc ones need a port.
        """
        expected = "expected http://host:8080, https://host/path, grpc://host:8081 or grpcs://host:443"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"url {url!r}: {error}; {expected}") from None
        if (
            parts.scheme not in {"http", "https", "grpc", "grpcs"}
            or not parts.hostname
            or parts.query
            or parts.fragment
        ):
            raise ConfigError(f"url {url!r}: {expected}")
        if parts.username is not None:
            raise ConfigError(f"url of {parts.hostname}: it holds a user or password; give the key as api_key")
        is_grpc = parts.scheme.startswith("grpc")
        if is_grpc and (port is None or parts.path.strip("/")):
            raise ConfigError(f"url {url!r}: gRPC needs a port and has no path; {expected}")
        return cls(url.rstrip("/"), is_grpc, parts.scheme in {"https", "grpcs"}, parts.netloc)
