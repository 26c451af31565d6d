"""`visionyard predict`: a bundle or a server on images and videos, as a table, drawn pictures, or JSON lines."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visionyard.errors import ConfigError, DataError, MediaError, RequestError, TooLargeError

if TYPE_CHECKING:
    import numpy as np

KEY_VARIABLE = "VISIONYARD_API_KEY"


@dataclass(frozen=True)
class Server:
    """Which server is asked.

    Attributes:
        url: http, https, grpc or grpcs.
        model: Its name there; empty: the only one.
        downsize_px: Longest side sent; 0 sends images as they are.
    """

    url: str
    model: str = ""
    downsize_px: int = 0


@dataclass(frozen=True)
class Seen:
    """What was found in one image or frame.

    Attributes:
        path: The file.
        record: The JSON line.
        frame_index: As in `inference.paths.Picture`.
        image: (H, W, 3) uint8 RGB; None where it could not be read, or is not drawn.
    """

    path: Path
    record: dict[str, Any]
    frame_index: int | None = None
    image: "np.ndarray | None" = None

    @property
    def is_failed(self) -> bool:
        """Whether the file could not be read."""
        return "error" in self.record


def predict_paths_command(
    source: Path | Server,
    paths: Sequence[Path],
    *,
    drawn: Path | None,
    is_json: bool,
    confidence: float | None,
    model_format: str,
    rate_hz: float,
    console: Console,
) -> None:
    """Predict every image and video below `paths`; a file that cannot be read is told and passed over.

    Raises:
        ConfigError: A path is missing, an option is out of its range, or the bundle lacks the format.
        DataError: Nothing could be read.
        VisionyardError: The server cannot be reached, or refuses.
    """
    check_options(confidence=confidence, rate_hz=rate_hz)
    from visionyard.inference.paths import find_media

    files = find_media(paths)
    table = Table(box=None, pad_edge=False)
    for heading in ("Image", "Time", "Found"):
        table.add_column(heading, overflow="fold")
    seen_count = 0
    looked = (
        _ask_server(source, files, confidence=confidence, rate_hz=rate_hz, is_drawn=drawn is not None)
        if isinstance(source, Server)
        else _run_bundle(source, model_format, files, confidence=confidence, rate_hz=rate_hz)
    )
    for seen in looked:
        seen_count += not seen.is_failed
        if drawn is not None and seen.image is not None:
            _draw(seen, drawn, paths)
        if is_json:
            sys.stdout.write(json.dumps(seen.record, ensure_ascii=False) + "\n")
        else:
            time_text = f"{seen.record['timestamp_s']:.2f} s" if "timestamp_s" in seen.record else ""
            table.add_row(escape(seen.record["path"]), time_text, _found(seen.record))
    if not is_json:
        console.print(table)
        if drawn is not None and seen_count:
            console.print(f"drawn pictures are in {drawn}", soft_wrap=True)
    if not seen_count:
        raise DataError(f"none of {len(files)} files could be read: {', '.join(map(str, files[:5]))}")


def check_options(*, confidence: float | None, rate_hz: float) -> None:
    """Refuse options out of their range.

    Raises:
        ConfigError: Names the option, its value and the range.
    """
    if confidence is not None and not 0 <= confidence <= 1:
        raise ConfigError(f"--confidence {confidence}: expected 0 to 1")
    if not rate_hz > 0:
        raise ConfigError(f"--rate-hz {rate_hz}: expected above 0")


def _run_bundle(
    bundle: Path, model_format: str, files: Sequence[Path], *, confidence: float | None, rate_hz: float
) -> Iterator[Seen]:
    from visionyard.inference import Predictor
    from visionyard.inference.paths import predict_paths

    with Predictor.from_bundle(bundle, model_format or None) as predictor:
        for path in files:
            try:
                for one in predict_paths(predictor, [path], confidence_threshold=confidence, rate_hz=rate_hz):
                    yield Seen(path, one.to_json(predictor.classes), one.frame_index, one.image)
            except MediaError as error:
                yield Seen(path, {"path": str(path), "error": str(error)})


def _ask_server(
    server: Server, files: Sequence[Path], *, confidence: float | None, rate_hz: float, is_drawn: bool
) -> Iterator[Seen]:
    from visionyard.client import Client

    key = os.environ.get(KEY_VARIABLE, "")
    with Client(server.url, model=server.model, api_key=key) as client:
        for path in files:
            try:
                for place, image, sent in _to_send(path, rate_hz, is_drawn=is_drawn):
                    result = client.predict(sent, confidence=confidence, downsize_px=server.downsize_px or None)
                    values = result.to_json()
                    del values["width"], values["height"]
                    yield Seen(path, {"path": str(path), **place, **values}, place.get("frame_index"), image)
            except (MediaError, TooLargeError) as error:
                yield Seen(path, {"path": str(path), "error": str(error)})
            except RequestError as error:
                # The server speaks of the image where only it looked into the file; anything else ends the command.
                if type(error) is not RequestError or _can_be_read(path):
                    raise
                yield Seen(path, {"path": str(path), "error": str(error)})


def _to_send(
    path: Path, rate_hz: float, *, is_drawn: bool
) -> "Iterator[tuple[dict[str, Any], np.ndarray | None, np.ndarray | Path]]":
    """Yield place, pixels where they are at hand, and what is sent: an image's own bytes, a video's frames."""
    from visionyard.inference.paths import is_video, open_pictures

    if not is_video(path) and not is_drawn:
        yield {}, None, path
        return
    for picture in open_pictures(path, rate_hz):
        yield picture.place(), picture.image if is_drawn else None, picture.image if picture.place() else path


def _can_be_read(path: Path) -> bool:
    from visionyard.transforms import load_image

    try:
        load_image(path)
    except MediaError:
        return False
    return True


def _draw(seen: Seen, folder: Path, roots: Sequence[Path]) -> None:
    """Write the picture with its prediction below `folder`, at its place below the path that the user named."""
    from PIL import Image

    from visionyard.inference.drawing import draw_prediction

    assert seen.image is not None
    root = next((root for root in roots if root.is_dir() and seen.path.is_relative_to(root)), seen.path.parent)
    place = folder / seen.path.relative_to(root)
    name = place.stem if seen.frame_index is None else f"{place.stem}-{seen.frame_index:06d}"
    # Two files may differ in their extension only.
    target = place.with_name(f"{name}{place.suffix.replace('.', '-')}.jpg")
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = draw_prediction(seen.image, *_to_prediction(seen.record))
    Image.fromarray(picture).save(target, "JPEG", quality=92)


def _to_prediction(record: Mapping[str, Any]) -> "tuple[Any, list[str]]":
    """Return a record's prediction and class names as drawing takes them; the names are those that occur."""
    import numpy as np

    from visionyard.transforms import Classification, Detections

    scores = record["boxes"] if "boxes" in record else record["top"]
    classes = [""] * (1 + max((score["class_id"] for score in scores), default=0))
    for score in scores:
        classes[score["class_id"]] = score["class"]
    ids = np.array([score["class_id"] for score in scores], np.int64)
    confidence = np.array([score["confidence"] for score in scores], np.float32)
    if "boxes" in record:
        xyxy = np.array([box["xyxy"] for box in scores], np.float64).reshape(-1, 4)
        return Detections(xyxy, ids, confidence, **_details(scores)), classes
    probabilities = np.zeros(len(classes), np.float32)
    probabilities[ids] = confidence
    return Classification(probabilities), classes


def _details(boxes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return masks and keypoints of boxes as `Detections` takes them, those that the model gives."""
    import numpy as np

    from visionyard.geometry import Mask

    details: dict[str, Any] = {}
    if boxes and "mask" in boxes[0]:
        details["masks"] = [Mask.from_json(box["mask"]["rle"]) for box in boxes]
    if boxes and "keypoints" in boxes[0]:
        details["keypoints"] = np.array([box["keypoints"] for box in boxes], np.float64)
    return details


def _found(record: Mapping[str, Any]) -> str:
    if "error" in record:
        return f"[red]{escape(record['error'])}[/red]"
    if "class" in record:
        return f"{escape(record['class'])} {record['confidence']:.2f}"
    counts = Counter(box["class"] for box in record["boxes"])
    best = max((box["confidence"] for box in record["boxes"]), default=0.0)
    found = ", ".join(f"{count} x {escape(name)}" for name, count in sorted(counts.items()))
    return f"{found} (best {best:.2f})" if found else "nothing"
