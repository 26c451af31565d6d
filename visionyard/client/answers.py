"""What the server answers, as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionyard.errors import VisionyardError
from visionyard.geometry import Mask

_PIXEL_DIGITS = 2


@dataclass(frozen=True)
class ClassScore:
    """A class and how sure the model is of it.

    Attributes:
        class_name: Its name.
        class_id: Its place in the model's classes, from 0.
        confidence: In [0, 1].
    """

    class_name: str
    class_id: int
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values as the server's JSON has them."""
        return {"class": self.class_name, "class_id": self.class_id, "confidence": self.confidence}


@dataclass(frozen=True)
class Box(ClassScore):
    """An object found.

    Attributes:
        xyxy: Left, top, right, bottom in pixels of the image that was given to the client.
        mask: Of a model that gives masks, else None: of the size of that image; `to_array` gives its pixels, `to_json`
            COCO's run lengths, which pycocotools reads.
        polygons: Where they were asked for in its place, else None: outlines x, y, x, y, ... in pixels of that image.
        keypoints: Of a model that gives keypoints, else None: x, y in pixels of that image, confidence.
    """

    xyxy: tuple[float, float, float, float]
    mask: Mask | None = None
    polygons: tuple[tuple[float, ...], ...] | None = None
    keypoints: tuple[tuple[float, float, float], ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values as the server's JSON has them."""
        values: dict[str, Any] = {**super().to_json(), "xyxy": list(self.xyxy)}
        if self.mask is not None:
            values["mask"] = {"rle": self.mask.to_json()}
        if self.polygons is not None:
            values["polygons"] = [list(polygon) for polygon in self.polygons]
        if self.keypoints is not None:
            values["keypoints"] = [list(point) for point in self.keypoints]
        return values


@dataclass(frozen=True)
class DetectedImage:
    """Objects found in one image.

    Attributes:
        width: Of the upright image that was given to the client, pixels.
        height: The same.
        boxes: Most confident first.
    """

    width: int
    height: int
    boxes: tuple[Box, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values as the server's JSON has them."""
        return {"width": self.width, "height": self.height, "boxes": [box.to_json() for box in self.boxes]}


class _Classified:
    """What has a class: `top` are the most probable ones, best first; at least one."""

    top: tuple[ClassScore, ...]

    @property
    def class_name(self) -> str:
        """Name of the most probable class."""
        return self.top[0].class_name

    @property
    def class_id(self) -> int:
        """Id of the most probable class."""
        return self.top[0].class_id

    @property
    def confidence(self) -> float:
        """Probability of the most probable class."""
        return self.top[0].confidence

    def to_json(self) -> dict[str, Any]:
        """Return plain values as the server's JSON has them."""
        top = [score.to_json() for score in self.top]
        return {**top[0], "top": top}


@dataclass(frozen=True)
class ClassifiedImage(_Classified):
    """The class of one image.

    Attributes:
        width: Of the upright image that was given to the client, pixels.
        height: The same.
        top: The most probable classes, best first; at least one.
    """

    width: int
    height: int
    top: tuple[ClassScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values as the server's JSON has them."""
        return {"width": self.width, "height": self.height, **super().to_json()}


@dataclass(frozen=True)
class ClassifiedRow(_Classified):
    """The class of one row of a table.

    Attributes:
        top: The most probable classes, best first; at least one.
    """

    top: tuple[ClassScore, ...]


ImageResult = DetectedImage | ClassifiedImage


def to_result(values: Mapping[str, Any], source_wh: tuple[int, int] | None) -> ImageResult:
    """Turn the server's answer about one image into a result.

    Args:
        values: `{"width", "height", "boxes": [...]}` or `{"width", "height", "class", ..., "top": [...]}`.
        source_wh: Size of the image before it was scaled down for sending, pixels; None when it was not.

    Raises:
        VisionyardError: The answer has another form.
    """
    try:
        width, height = source_wh or (int(values["width"]), int(values["height"]))
        if "boxes" in values:
            scale = (width / values["width"], height / values["height"]) if source_wh else None
            return DetectedImage(width, height, tuple(_box(box, scale, (width, height)) for box in values["boxes"]))
        return ClassifiedImage(width, height, tuple(map(to_score, values["top"])))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise VisionyardError(
            f"the server's answer {str(dict(values))[:120]!r}: expected boxes or top ({type(error).__name__}: "
            f"{error}); is it a Visionyard server of this version?"
        ) from None


def to_score(values: Mapping[str, Any]) -> ClassScore:
    """Return a class of the server's JSON; KeyError, TypeError or ValueError where it is none."""
    return ClassScore(**_score(values))


def _score(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "class_name": str(values["class"]),
        "class_id": int(values["class_id"]),
        "confidence": float(values["confidence"]),
    }


def _box(values: Mapping[str, Any], scale_xy: tuple[float, float] | None, size_wh: tuple[int, int]) -> Box:
    runs, polygons, points = values.get("mask"), values.get("polygons"), values.get("keypoints")
    mask = None if runs is None else Mask.from_json(runs["rle"])
    factors = scale_xy or (1.0, 1.0)

    def scaled(place: list[float]) -> tuple[float, ...]:
        return tuple(round(value * factors[axis % 2], _PIXEL_DIGITS) for axis, value in enumerate(place))

    return Box(
        **_score(values),
        xyxy=_placed(values["xyxy"], scale_xy, size_wh),
        mask=mask if mask is None or scale_xy is None else _resized(mask, size_wh),
        polygons=None if polygons is None else tuple(map(scaled, polygons)),
        keypoints=None if points is None else tuple((*scaled(point[:2]), point[2]) for point in points),
    )


def _resized(mask: Mask, size_wh: tuple[int, int]) -> Mask:
    # Only here: a client that scales nothing needs none of it.
    from PIL import Image

    pixels = Image.fromarray(mask.to_array().astype("uint8"))
    return Mask.from_array(np.asarray(pixels.resize(size_wh, Image.Resampling.NEAREST)) > 0)


def _placed(
    xyxy: list[float], scale_xy: tuple[float, float] | None, limit_wh: tuple[int, int]
) -> tuple[float, float, float, float]:
    if scale_xy is None:
        left, top, right, bottom = map(float, xyxy)
    else:
        left, top, right, bottom = (
            round(min(max(value * scale_xy[axis % 2], 0.0), float(limit_wh[axis % 2])), _PIXEL_DIGITS)
            for axis, value in enumerate(xyxy)
        )
    return left, top, right, bottom
