"""Models that no one here trained find on real pictures what their makers say."""

from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.export.import_spec import ImportSpec
from visionyard.export.importing import import_model
from visionyard.inference import Predictor
from visionyard.transforms import Detections, load_image
from visionyard.video.decoding import VideoReader

_NAMES = """person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign
parking_meter
bench bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis
snowboard sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork
knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed
dining_table toilet tv laptop mouse remote keyboard cell_phone microwave oven toaster sink refrigerator book clock vase
scissors teddy_bear hair_drier toothbrush"""
COCO = _NAMES.split()

# From the authors' own demo programs.
YOLOX = {
    "preprocessing": {
        "resize": "letterbox",
        "pad_side": "end",
        "size_hw": [416, 416],
        "interpolation": "bilinear",
        "scale": 1.0,
        "channel_order": "bgr",
    },
    "postprocessing": {"layout": "yolox", "confidence_threshold": 0.3, "iou_threshold": 0.45},
}
YOLOV8 = {
    "preprocessing": {"resize": "letterbox", "size_hw": [640, 640], "interpolation": "bilinear"},
    "postprocessing": {"layout": "yolo"},
}
ULTRAFACE = {
    "classes": ["face"],
    "outputs": ["scores", "boxes"],
    "preprocessing": {
        "resize": "stretch",
        "size_hw": [240, 320],
        "interpolation": "bilinear",
        "scale": 1.0,
        "mean": [127, 127, 127],
        "std": [128, 128, 128],
    },
    "postprocessing": {"layout": "ssd", "confidence_threshold": 0.7, "iou_threshold": 0.3},
}


@pytest.fixture
def imported(shared_data: Callable[[str], Path], tmp_path: Path) -> Callable[..., Predictor]:
    """Return a function that imports a model and opens its bundle."""
    models = shared_data("models")

    def make(file: str, values: dict[str, Any], *, format: str | None = None) -> Predictor:  # noqa: A002
        spec = ImportSpec.model_validate(
            {"name": "imported", "task": "detection", "classes": COCO, "licence": "see its makers", **values}
        )
        return Predictor.from_bundle(import_model(models / file, spec, tmp_path / "bundle").bundle, format)

    return make


def _frame(path: Path, number: int) -> np.ndarray:
    with VideoReader(path) as reader:
        return next(reader.to_rgb(frame) for index, frame in enumerate(reader.frames()) if index == number)


def _counts(predictor: Predictor, image: np.ndarray) -> tuple[Counter[str], Detections]:
    (found,) = predictor.predict([image])
    assert isinstance(found, Detections)
    return Counter(predictor.classes[class_id] for class_id in found.class_ids), found


@pytest.mark.parametrize(
    ("file", "values"), [("yolox_nano.onnx", YOLOX), ("yolov8n_int8.onnx", YOLOV8)], ids=["yolox", "yolov8_int8"]
)
def test_detectors_of_everyday_things(
    file: str, values: dict[str, Any], imported: Callable[..., Predictor], shared_data: Callable[[str], Path]
) -> None:
    videos = shared_data("videos")

    with imported(file, values) as predictor:
        bottles, found = _counts(predictor, _frame(videos / "bottle" / "bottle-detection.mp4", 30))
        road, _ = _counts(predictor, _frame(videos / "car" / "highway-video02.avi", 300))
        campus, _ = _counts(predictor, _frame(videos / "person" / "vtest.avi", 120))

    assert bottles == {"bottle": 3}
    assert found.confidence.min() > 0.8
    assert (np.diff(found.xyxy.reshape(-1, 2, 2), axis=1).reshape(-1, 2) > (30, 60)).all()  # tall ones, not specks
    assert road["car"] >= 6
    assert campus["person"] >= 7
    assert campus["car"] >= 1
    assert campus["truck"] >= 1


def test_a_face_detector_of_another_layout(
    imported: Callable[..., Predictor], shared_data: Callable[[str], Path]
) -> None:
    image = _frame(shared_data("videos") / "signing" / "book.mkv", 30)

    with imported("ultraface/version-RFB-320.onnx", ULTRAFACE) as predictor:
        counts, found = _counts(predictor, image)

    assert counts == {"face": 1}
    left, top, right, bottom = found.xyxy[0]
    assert found.confidence[0] > 0.95
    assert 0 < top < bottom < image.shape[0] / 2  # the signer's head is in the upper half
    assert image.shape[1] / 4 < (left + right) / 2 < image.shape[1] * 3 / 4


def test_two_faces_in_a_picture(imported: Callable[..., Predictor]) -> None:
    package = find_spec("ultralytics")  # not imported: its picture is all that is needed
    if package is None or package.origin is None:
        pytest.skip("needs the extra yolo, whose package holds the picture")
    picture = Path(package.origin).parent / "assets" / "zidane.jpg"

    with imported("ultraface/version-RFB-320.onnx", ULTRAFACE) as predictor:
        _, found = _counts(predictor, load_image(picture))

    assert np.sort(found.confidence) == pytest.approx([0.96, 1.0], abs=0.02)


def test_openvino_finds_the_same(imported: Callable[..., Predictor], shared_data: Callable[[str], Path]) -> None:
    if not find_spec("openvino"):
        pytest.skip("needs the extra openvino")
    image = _frame(shared_data("videos") / "bottle" / "bottle-detection.mp4", 30)

    with imported("yolox_nano.onnx", YOLOX, format="openvino") as predictor:
        counts, found = _counts(predictor, image)

    assert counts == {"bottle": 3}
    assert found.confidence.min() > 0.8
