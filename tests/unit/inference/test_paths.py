"""Files and folders of images and videos become records, in order, with plain values for scripts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.clips import write_clip
from visionyard.errors import ConfigError, MediaError
from visionyard.geometry import Mask
from visionyard.inference import Predictor, predict_paths, prediction_to_json
from visionyard.transforms import Classification, Detections

CLASSES = ["blue", "red"]


def _frame(x: int) -> np.ndarray:
    image = np.full((80, 96, 3), 120, np.uint8)
    image[24:40, x : x + 16] = (220, 40, 30)
    return image


@pytest.fixture
def predictor(tiny_model: Callable[..., Any]) -> Predictor:
    return Predictor.from_model(tiny_model("detection"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds at 10 Hz in which the red square steps right by 20 px after the first."""
    return write_clip(tmp_path / "clip.mp4", (_frame(16 if number < 10 else 36) for number in range(20)))


def test_a_folder_is_gone_through_sorted_whatever_lies_in_it(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.jpg", "sub/c.webp"):
        Image.fromarray(_frame(40)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not looked at")

    seen = list(predict_paths(predictor, [tmp_path], batch_size=2))

    assert [one.path.name for one in seen] == ["a.jpg", "b.png", "c.webp"]
    assert all(one.timestamp_s is None and one.prediction.class_ids[0] == 1 for one in seen)
    record = seen[1].to_json(CLASSES)
    assert set(record) == {"path", "boxes"}
    assert record["boxes"][0]["class"] == "red"
    json.dumps(record, allow_nan=False)


def test_a_video_is_sampled_by_time(predictor: Predictor, clip: Path) -> None:
    seen = list(predict_paths(predictor, [clip], rate_hz=2.0, batch_size=3))

    assert [one.timestamp_s for one in seen] == [0.0, 0.5, 1.0, 1.5]
    assert [one.frame_index for one in seen] == [0, 5, 10, 15]
    lefts = [one.prediction.xyxy[0, 0] for one in seen]
    np.testing.assert_allclose(lefts, [16, 16, 36, 36], atol=2.5)
    assert seen[2].to_json(CLASSES)["timestamp_s"] == 1.0


def test_a_file_is_what_its_bytes_are(predictor: Predictor, clip: Path) -> None:
    named_otherwise = clip.rename(clip.with_suffix(".jpg"))

    assert len(list(predict_paths(predictor, [named_otherwise], rate_hz=1.0))) == 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        pytest.param(lambda path: None, ConfigError, "x.png: no such file or folder", id="missing"),
        pytest.param(lambda path: path.mkdir(), ConfigError, "no image or video below this folder", id="empty_folder"),
        pytest.param(
            lambda path: path.write_text("hello"), MediaError, "expected an image or a video, its bytes", id="text"
        ),
        pytest.param(lambda path: path.write_bytes(b""), MediaError, "of no known type", id="zero_bytes"),
        pytest.param(
            lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n junk"), MediaError, r"x\.png: ", id="damaged_image"
        ),
        pytest.param(
            lambda path: path.write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 40), MediaError, r"x\.png", id="damaged_video"
        ),
    ],
)
def test_says_what_is_wrong_with_a_path(
    make: Callable[[Path], object], error: type[Exception], message: str, predictor: Predictor, tmp_path: Path
) -> None:
    path = tmp_path / "x.png"
    make(path)

    with pytest.raises(error, match=message):
        list(predict_paths(predictor, [path]))


def test_plain_values_of_predictions() -> None:
    boxes = Detections(np.array([[1.005, 2, 3, 4]]), np.array([1]), np.array([0.75], np.float32))
    found = Classification(np.array([0.25, 0.75], np.float32))

    assert prediction_to_json(boxes, CLASSES) == {
        "boxes": [{"class": "red", "class_id": 1, "confidence": 0.75, "xyxy": [1.0, 2.0, 3.0, 4.0]}]
    }
    assert prediction_to_json(found, CLASSES) == {
        "class": "red",
        "class_id": 1,
        "confidence": 0.75,
        "top": [
            {"class": "red", "class_id": 1, "confidence": 0.75},
            {"class": "blue", "class_id": 0, "confidence": 0.25},
        ],
    }


def test_masks_and_keypoints_in_json() -> None:
    pixels = np.zeros((4, 6), np.bool_)
    pixels[1:3, 2:5] = True
    found = Detections(
        np.array([[2.0, 1, 5, 3]]),
        np.array([0]),
        np.array([0.5], np.float32),
        masks=[Mask.from_array(pixels)],
        keypoints=np.array([[[2.004, 1.5, 0.123456]]]),
    )

    (rle,), (polygons,), (none,) = (
        prediction_to_json(found, ["cat"], masks=form)["boxes"] for form in ("rle", "polygons", "none")
    )

    # By hand: columns of 4; 9 pixels outside, 2 in, 2 out, 2 in, 2 out, 2 in, 5 out; differences from the fourth on.
    assert rle["mask"] == {"rle": {"size": [4, 6], "counts": "9220003"}}
    assert (rle["keypoints"], "polygons" in rle) == ([[2.0, 1.5, 0.12346]], False)
    corners = {(x, y) for x, y in zip(polygons["polygons"][0][::2], polygons["polygons"][0][1::2], strict=True)}
    assert corners == {(2, 1), (5, 1), (5, 3), (2, 3)}
    assert set(none) == {"class", "class_id", "confidence", "xyxy", "keypoints"}
