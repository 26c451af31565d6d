"""Predictions for files that a person names: images, videos, folders of both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from visionyard import events
from visionyard.data.media import HEAD_BYTES, MEDIA_EXTENSIONS, sniff_media_type
from visionyard.errors import ConfigError, MediaError
from visionyard.geometry.outlines import mask_to_polygons
from visionyard.inference.predictor import Predictor
from visionyard.transforms import Classification, Detections, Prediction, load_image
from visionyard.transforms.specs import require_images
from visionyard.video.streaming import stream_frames

TOP_COUNT = 5
MaskForm = Literal["rle", "polygons", "none"]
_PIXEL_DIGITS, _CONFIDENCE_DIGITS, _TIME_DIGITS = 2, 5, 3


@dataclass(frozen=True)
class Picture:
    """An image, or one frame of a video.

    Attributes:
        timestamp_s: Presentation time from the video's first frame; None for an image.
        frame_index: Place among the video's decoded frames, from 0; None for an image.
        image: (H, W, 3) uint8 RGB, upright.
    """

    timestamp_s: float | None
    frame_index: int | None
    image: np.ndarray

    def place(self) -> dict[str, Any]:
        """Return where in a video it stands, as plain values; nothing for an image."""
        if self.timestamp_s is None:
            return {}
        return {"timestamp_s": round(self.timestamp_s, _TIME_DIGITS), "frame_index": self.frame_index}


@dataclass(frozen=True)
class PathPrediction(Picture):
    """What was seen in one image or one frame of a video.

    Attributes:
        path: The file.
        prediction: Boxes in its pixels, or its class.
    """

    path: Path
    prediction: Prediction

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return plain values, the image left out.

        Args:
            classes: Class names in the order of their ids.
        """
        return {"path": str(self.path), **self.place(), **prediction_to_json(self.prediction, classes)}


def prediction_to_json(
    prediction: Prediction, classes: Sequence[str], *, top_count: int = TOP_COUNT, masks: MaskForm = "rle"
) -> dict[str, Any]:
    """Return a prediction as plain values.

    Args:
        prediction: Boxes, or a class.
        classes: Class names in the order of their ids.
        top_count: Classes listed of a classification.
        masks: How masks are written, where the model gives some.

    Returns:
        {"boxes": [{"class", "class_id", "confidence", "xyxy"}, ...]}, most confident first, xyxy in pixels. A box may
        also have "mask", {"rle": {"size": [height, width], "counts": "..."}} as COCO's compressed run lengths, or
        "polygons", [[x, y, x, y, ...], ...]; and "keypoints", [[x, y, confidence], ...]. Or
        {"class", "class_id", "confidence", "top": [{"class", "class_id", "confidence"}, ...]}, at most `top_count`.
    """
    if isinstance(prediction, Classification):
        order = np.argsort(-prediction.probabilities, kind="stable")[:top_count]
        top = [_named(classes, int(index), float(prediction.probabilities[index])) for index in order]
        return {**top[0], "top": top}
    boxes = []
    for position, (class_id, confidence, xyxy) in enumerate(
        zip(prediction.class_ids, prediction.confidence, prediction.xyxy.tolist(), strict=True)
    ):
        corners = [round(value, _PIXEL_DIGITS) for value in xyxy]
        named = _named(classes, int(class_id), float(confidence))
        boxes.append({**named, "xyxy": corners, **_instance_to_json(prediction, position, masks)})
    return {"boxes": boxes}


def _instance_to_json(prediction: Detections, position: int, masks: MaskForm) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if prediction.masks is not None and masks == "rle":
        values["mask"] = {"rle": prediction.masks[position].to_json()}
    if prediction.masks is not None and masks == "polygons":
        values["polygons"] = mask_to_polygons(prediction.masks[position])
    if prediction.keypoints is not None:
        values["keypoints"] = [
            [round(x, _PIXEL_DIGITS), round(y, _PIXEL_DIGITS), round(confidence, _CONFIDENCE_DIGITS)]
            for x, y, confidence in prediction.keypoints[position].tolist()
        ]
    return values


def predict_paths(
    predictor: Predictor,
    paths: Sequence[Path],
    *,
    confidence_threshold: float | None = None,
    rate_hz: float = 1.0,
    batch_size: int = 8,
) -> Iterator[PathPrediction]:
    """Look at images and videos, in the order given; folders are gone through sorted, by their files' extensions.

    Args:
        predictor: The model.
        paths: Files are taken for what their bytes show them to be.
        confidence_threshold: For detections, in place of the spec's own, in [0, 1].
        rate_hz: Frames looked at per second of video, above 0; each is the one on the screen at its time.
        batch_size: Most images held at once.

    Raises:
        ConfigError: A path does not exist, a folder has no image or video, there is a video and PyAV is missing, or the
            model is of a table.
        MediaError: A file is neither an image nor a video, or cannot be decoded.
    """
    require_images(predictor.preprocessing)
    files = find_media(paths)
    for done, path in enumerate(files):
        events.progress(done, len(files), unit="file", label=path.name)
        pictures = open_pictures(path, rate_hz)
        while batch := list(islice(pictures, batch_size)):
            found = predictor.predict(
                [picture.image for picture in batch], confidence_threshold=confidence_threshold, batch_size=batch_size
            )
            for picture, prediction in zip(batch, found, strict=True):
                yield PathPrediction(
                    timestamp_s=picture.timestamp_s,
                    frame_index=picture.frame_index,
                    image=picture.image,
                    path=path,
                    prediction=prediction,
                )
    events.progress(len(files), len(files), unit="file")


def open_pictures(path: Path, rate_hz: float) -> Iterator[Picture]:
    """Yield the image of a file, or the frames of a video, taken for what its bytes show it to be.

    A video is decoded in a process of its own, which a damaged file may end without harm.

    Args:
        path: The file.
        rate_hz: Frames looked at per second of video, above 0; each is the one on the screen at its time.

    Raises:
        ConfigError: It is a video and PyAV is missing.
        MediaError: It is neither an image nor a video, or cannot be decoded.
    """
    if not is_video(path):
        yield Picture(None, None, load_image(path))
        return
    if find_spec("av") is None:
        raise ConfigError(f"{path}: videos need PyAV; pip install 'visionyard[data]'")
    for frame in stream_frames(path, rate_hz):
        yield Picture(frame.time_s, frame.frame_index, frame.image)


def find_media(paths: Sequence[Path]) -> list[Path]:
    """Return files as they are and, for folders, all images and videos below them by extension, sorted.

    Raises:
        ConfigError: A path does not exist, or a folder has no image or video.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(
                file for file in path.rglob("*") if file.suffix.lower() in MEDIA_EXTENSIONS and file.is_file()
            )
            if not found:
                raise ConfigError(f"{path}: no image or video below this folder; name files, or another folder")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise ConfigError(f"{path}: no such file or folder")
    return files


def is_video(path: Path) -> bool:
    """Return whether a file's bytes are a video's rather than an image's.

    Raises:
        MediaError: It cannot be read, or is neither.
    """
    try:
        with path.open("rb") as stream:
            media_type = sniff_media_type(stream.read(HEAD_BYTES)) or ""
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not media_type.startswith(("image/", "video/")):
        raise MediaError(
            f"{path}: expected an image or a video, its bytes are {media_type or 'of no known type'}; leave it out"
        )
    return media_type.startswith("video/")


def _named(classes: Sequence[str], class_id: int, confidence: float) -> dict[str, Any]:
    return {"class": classes[class_id], "class_id": class_id, "confidence": round(confidence, _CONFIDENCE_DIGITS)}
