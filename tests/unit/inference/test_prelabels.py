"""A labelling task that a model has begun: what stands in it is what the model said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.labelled_sets import read_back
from visionyard.data.dataset import Dataset
from visionyard.data.items import Problems
from visionyard.errors import ConfigError, DataError
from visionyard.inference import Predictor
from visionyard.inference.prelabels import PrelabelReport, write_prelabels
from visionyard.transforms import decode_image


@pytest.fixture
def pictures(tiny_dataset: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes the test images of a tiny dataset into nested folders."""

    def write(task: str) -> Path:
        dataset = Dataset(tiny_dataset(task))
        for number, sample in enumerate(dataset.samples("test")):
            path = tmp_path / "pictures" / f"part{number % 2}" / f"{number // 2}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(dataset.image_bytes(sample))
        return tmp_path / "pictures"

    return write


def _write(predictor: Predictor, folder: Path, target: Path, tool: Any, **options: Any) -> tuple[PrelabelReport, Any]:
    problems = Problems()
    settings = {"model": "tiny 123", "confidence_threshold": None, "rate_hz": 1.0, "problems": problems, **options}
    return write_prelabels(predictor, [folder], target, tool=tool, **settings), problems


def test_boxes_stand_in_cvats_file_with_their_scores(pictures: Any, tiny_model: Any, tmp_path: Path):
    predictor = Predictor.from_model(tiny_model("detection"))
    folder, target = pictures("detection"), tmp_path / "task"
    report, _ = _write(predictor, folder, target, "cvat")
    root = ElementTree.parse(target / "annotations.xml").getroot()
    names = [image.get("name") for image in root.iter("image")]
    assert names == [f"part{part}_{number}.png" for part in (0, 1) for number in (0, 1, 2)]
    assert [path.name for path in sorted((target / "images").iterdir())] == names
    for image in root.iter("image"):
        data = (target / "images" / str(image.get("name"))).read_bytes()
        assert data == (folder / str(image.get("name")).replace("_", "/")).read_bytes()
        (expected,) = predictor.predict([decode_image(data)])
        boxes = list(image.iter("box"))
        found = [[float(box.get(side, "")) for side in ("xtl", "ytl", "xbr", "ybr")] for box in boxes]
        assert found == expected.xyxy.tolist()
        assert [box.get("label") for box in boxes] == [predictor.classes[int(one)] for one in expected.class_ids]
        scores = [float(box.findtext("attribute[@name='score']", "")) for box in boxes]
        assert scores == pytest.approx(expected.confidence.tolist(), abs=1e-4)
        assert {box.get("source") for box in boxes} == {"auto"}
    assert report.image_count == 6
    assert report.box_count == sum(report.class_counts.values()) == len(list(root.iter("box"))) > 0
    labels = json.loads((target / "labels.json").read_text())
    assert [label["name"] for label in labels] == predictor.classes
    assert [label.findtext("name") for label in root.iter("label")] == predictor.classes


def test_boxes_stand_in_label_studios_predictions(pictures: Any, tiny_model: Any, tmp_path: Path):
    predictor = Predictor.from_model(tiny_model("detection"))
    report, _ = _write(predictor, pictures("detection"), tmp_path / "task", "label_studio")
    tasks = json.loads((tmp_path / "task/tasks.json").read_text())
    assert next(task["data"]["image"] for task in tasks) == "/data/local-files/?d=images/part0_0.png"
    for task in tasks:
        assert "annotations" not in task
        (prediction,) = task["predictions"]
        name = task["data"]["image"].rpartition("/")[2]
        (expected,) = predictor.predict([decode_image((tmp_path / "task/images" / name).read_bytes())])
        assert prediction["model_version"] == "tiny 123"
        assert prediction["score"] == pytest.approx(expected.confidence.min(), abs=1e-4)
        for result, (left, _top, right, bottom) in zip(prediction["result"], expected.xyxy.tolist(), strict=True):
            value, width, height = result["value"], result["original_width"], result["original_height"]
            assert value["x"] * width / 100 == pytest.approx(left)
            assert (value["y"] + value["height"]) * height / 100 == pytest.approx(bottom)
            assert value["width"] * width / 100 == pytest.approx(right - left)
    config = ElementTree.parse(tmp_path / "task/label_config.xml")
    assert {label.get("value") for label in config.iter("Label")} == set(predictor.classes)
    assert report.image_count == len(tasks) == 6


def test_a_task_that_is_handed_back_as_it_is_has_the_models_boxes(pictures: Any, tiny_model: Any, tmp_path: Path):
    predictor = Predictor.from_model(tiny_model("detection"))
    _write(predictor, pictures("detection"), tmp_path / "task", "cvat", confidence_threshold=0.5)
    for image in read_back(tmp_path / "task", tmp_path / "read", "auto").images():
        (expected,) = predictor.predict([image.pixels()], confidence_threshold=0.5)
        named = [predictor.classes[int(class_id)] for class_id in expected.class_ids]
        assert [box.class_name for box in image.item.boxes or ()] == named
        found = [box.xyxy for box in image.item.boxes or ()]
        assert np.allclose(np.array(found), np.clip(expected.xyxy, 0, [image.item.width, image.item.height] * 2))


@pytest.mark.parametrize(("confidence", "blank_count"), [(None, 0), (1.1, 6)])
def test_a_class_less_sure_than_asked_is_not_suggested(
    confidence: float | None, blank_count: int, pictures: Any, tiny_model: Any, tmp_path: Path
):
    predictor = Predictor.from_model(tiny_model("classification"))
    folder = pictures("classification")
    report, _ = _write(predictor, folder, tmp_path / "a", "cvat", confidence_threshold=confidence)
    root = ElementTree.parse(tmp_path / "a/annotations.xml").getroot()
    assert report.blank_count == blank_count
    assert len(list(root.iter("tag"))) == 6 - blank_count
    _write(predictor, folder, tmp_path / "b", "label_studio", confidence_threshold=confidence)
    tasks = json.loads((tmp_path / "b/tasks.json").read_text())
    assert sum(len(task["predictions"][0]["result"]) for task in tasks) == 6 - blank_count


def test_a_turned_image_is_written_upright(tiny_model: Any, tmp_path: Path):
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 96, 3), np.uint8)).save(tmp_path / "in/turned.jpg", exif=exif)
    _write(Predictor.from_model(tiny_model("detection")), tmp_path / "in", tmp_path / "task", "cvat")
    with Image.open(tmp_path / "task/images/turned.png") as image:
        assert image.size == (40, 96)
    (image_element,) = ElementTree.parse(tmp_path / "task/annotations.xml").getroot().iter("image")
    assert (image_element.get("width"), image_element.get("height")) == ("40", "96")


def test_what_cannot_be_read_is_told_and_left_out(pictures: Any, tiny_model: Any, tmp_path: Path):
    predictor = Predictor.from_model(tiny_model("detection"))
    folder = pictures("detection")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    report, problems = _write(predictor, folder, tmp_path / "task", "cvat")
    assert (report.image_count, report.skipped_count) == (6, 1)
    assert "broken.png" in problems.found[0].file
    with pytest.raises(DataError, match=r"none of 1 files could be read.*broken\.png"):
        _write(predictor, folder / "broken.png", tmp_path / "other", "cvat")
    assert not (tmp_path / "other").exists()
    with pytest.raises(ConfigError, match="task: is there and not empty"):
        _write(predictor, folder, tmp_path / "task", "cvat")
