"""Models that no one here trained find on real pictures what their makers say."""

import re
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

from visionyard.export.import_spec import ImportSpec, read_import_spec
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

PAGE = Path(__file__).parents[3] / "docs" / "bundles.md"
SPECS = {
    yaml.safe_load(block)["name"]: block for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
}


@pytest.fixture
def read_spec(tmp_path: Path) -> Callable[[str], ImportSpec]:
    """Return a function that reads a spec of the documentation by its name."""

    def read(name: str) -> ImportSpec:
        (tmp_path / "coco.txt").write_text("\n".join(COCO))
        (tmp_path / "spec.yaml").write_text(SPECS[name])
        return read_import_spec(tmp_path / "spec.yaml")

    return read


@pytest.mark.parametrize("name", SPECS)
def test_every_spec_of_the_documentation_can_be_read(name: str, read_spec: Callable[[str], ImportSpec]) -> None:
    spec = read_spec(name)

    assert len(spec.classes) == (1 if name == "ultraface" else 80)


@pytest.fixture
def imported(
    shared_data: Callable[[str], Path], read_spec: Callable[[str], ImportSpec], tmp_path: Path
) -> Callable[..., Predictor]:
    """Return a function that imports a model with a spec of the documentation and opens its bundle."""
    models = shared_data("models")

    def make(file: str, name: str, *, format: str | None = None) -> Predictor:  # noqa: A002
        return Predictor.from_bundle(import_model(models / file, read_spec(name), tmp_path / "bundle").bundle, format)

    return make


def _frame(path: Path, number: int) -> np.ndarray:
    with VideoReader(path) as reader:
        return next(reader.to_rgb(frame) for index, frame in enumerate(reader.frames()) if index == number)


def _counts(predictor: Predictor, image: np.ndarray) -> tuple[Counter[str], Detections]:
    (found,) = predictor.predict([image])
    assert isinstance(found, Detections)
    return Counter(predictor.classes[class_id] for class_id in found.class_ids), found


@pytest.mark.parametrize(
    ("file", "name"),
    [("yolox_nano.onnx", "yolox-nano"), ("yolov8n_int8.onnx", "yolov8n")],
    ids=["yolox", "yolov8_int8"],
)
def test_detectors_of_everyday_things(
    file: str, name: str, imported: Callable[..., Predictor], shared_data: Callable[[str], Path]
) -> None:
    videos = shared_data("videos")

    with imported(file, name) as predictor:
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

    with imported("ultraface/version-RFB-320.onnx", "ultraface") as predictor:
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

    with imported("ultraface/version-RFB-320.onnx", "ultraface") as predictor:
        _, found = _counts(predictor, load_image(picture))

    assert np.sort(found.confidence) == pytest.approx([0.96, 1.0], abs=0.02)


def test_openvino_finds_the_same(imported: Callable[..., Predictor], shared_data: Callable[[str], Path]) -> None:
    if not find_spec("openvino"):
        pytest.skip("needs the extra openvino")
    image = _frame(shared_data("videos") / "bottle" / "bottle-detection.mp4", 30)

    with imported("yolox_nano.onnx", "yolox-nano", format="openvino") as predictor:
        counts, found = _counts(predictor, image)

    assert counts == {"bottle": 3}
    assert found.confidence.min() > 0.8
