"""A model made elsewhere becomes a bundle when its spec fits, and is refused with the reason when it does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionyard.errors import ArtifactError, ConfigError, ModelError
from visionyard.export.import_spec import ImportSpec, read_import_spec
from visionyard.export.importing import import_model
from visionyard.inference import Bundle, Predictor, choose_format

BEFORE = {"resize": "stretch", "size_hw": [32, 48], "interpolation": "bilinear"}
# Two anchors in the yolo layout: a box of 20x10 px at (24, 16), class 1; nothing.
YOLO = np.array([[24, 10], [16, 10], [20, 4], [10, 4], [0.1, 0.01], [0.9, 0.01]])
PROBABILITIES = np.array([0.25, 0.75])


def _spec(**changes: Any) -> ImportSpec:
    values = {
        "name": "made",
        "task": "detection",
        "classes": ["cat", "dog"],
        "licence": "MIT",
        "preprocessing": BEFORE,
        "postprocessing": {},
        **changes,
    }
    return ImportSpec.model_validate(values)


@pytest.mark.parametrize("batch", ["N", 1, 4], ids=["free_batch", "batch_of_one", "batch_of_four"])
def test_a_bundle_answers_as_the_file_says(batch: Any, write_onnx_file: Callable[..., Path], tmp_path: Path) -> None:
    model = write_onnx_file({"found": YOLO}, input_shape=(batch, 3, 32, 48))

    report = import_model(model, _spec(source="https://example.com/cats"), tmp_path / "bundle")

    manifest = Bundle.open(report.bundle).manifest
    assert (manifest.origin, manifest.source, manifest.parity, manifest.plugin) == (
        "imported", "https://example.com/cats", None, ""
    )  # fmt: skip
    assert (manifest.input.name, manifest.input.shape) == ("images", [-1 if batch == "N" else batch, 3, 32, 48])
    assert [(one.name, one.shape) for one in manifest.outputs] == [("found", [-1 if batch == "N" else batch, 6, 2])]
    images = [np.zeros((64, 96, 3), np.uint8)] * 6
    with Predictor.from_bundle(report.bundle) as predictor:
        for found in predictor.predict(images, batch_size=6):
            assert found.class_ids.tolist() == [1]
            np.testing.assert_allclose(found.xyxy, [[28, 22, 68, 42]])  # twice as large as the input
    card = (report.bundle / "README.md").read_text()
    for text in ("imported from elsewhere", "Licence: MIT", "https://example.com/cats", "Not certified"):
        assert text in card


def test_a_free_size_is_fixed_by_the_spec(write_onnx_file: Callable[..., Path], tmp_path: Path) -> None:
    model = write_onnx_file({"found": YOLO}, input_shape=("N", 3, "H", "W"))

    report = import_model(model, _spec(), tmp_path / "bundle")

    assert report.manifest.input.shape == [-1, 3, 32, 48]


def test_outputs_are_taken_by_name_in_the_layout_s_order(write_onnx_file: Callable[..., Path], tmp_path: Path) -> None:
    scores, boxes = [[0.1, 0.9], [0.95, 0.05]], [[0.25, 0.5, 0.5, 1.0], [0, 0, 0.1, 0.1]]
    model = write_onnx_file({"boxes": boxes, "extra": [1.0], "scores": scores})
    spec = _spec(classes=["face"], outputs=["scores", "boxes"], postprocessing={"layout": "ssd"})

    report = import_model(model, spec, tmp_path / "bundle")

    with Predictor.from_bundle(report.bundle) as predictor:
        (found,) = predictor.predict([np.zeros((100, 200, 3), np.uint8)])
    assert [one.name for one in report.manifest.outputs] == ["scores", "boxes"]
    np.testing.assert_allclose(found.xyxy, [[50, 50, 100, 100]], atol=1e-4)
    np.testing.assert_allclose(found.confidence, [0.9])


def test_masks_and_keypoints_are_imported(write_onnx_file: Callable[..., Path], tmp_path: Path) -> None:
    picture = np.zeros((64, 96, 3), np.uint8)  # twice as large as the input
    coefficients, point = np.array([[1, 1]]), np.array([[24, 0], [16, 0], [0.75, 0]])
    segmenting = write_onnx_file({"found": np.vstack([YOLO, coefficients]), "maps": np.ones((1, 8, 12))})
    masks = import_model(segmenting, _spec(postprocessing={"layout": "yolo_seg"}), tmp_path / "masks")
    posing = write_onnx_file({"found": np.vstack([YOLO, point])}, name="points.onnx")
    how = {"layout": "yolo_pose", "keypoint_count": 1}
    points = import_model(posing, _spec(postprocessing=how), tmp_path / "points")

    with Predictor.from_bundle(masks.bundle) as predictor:
        (found,) = predictor.predict([picture])
    with Predictor.from_bundle(points.bundle) as predictor:
        (posed,) = predictor.predict([picture])

    assert [one.shape for one in masks.manifest.outputs] == [[-1, 7, 2], [-1, 1, 8, 12]]
    expected = np.zeros((64, 96), np.bool_)
    expected[22:42, 28:68] = True
    assert np.array_equal(found.masks[0].to_array(), expected)
    assert posed.keypoints.tolist() == [[[48, 32, 0.75]]]
    assert Bundle.open(points.bundle).manifest.postprocessing == points.manifest.postprocessing


def test_a_layout_that_would_fit_is_named(write_onnx_file: Callable[..., Path], tmp_path: Path) -> None:
    model = write_onnx_file({"found": np.vstack([YOLO, [[1, 1]]]), "maps": np.ones((1, 8, 12))})
    with pytest.raises(ModelError, match="of these shapes would be layout yolo_seg"):
        import_model(model, _spec(postprocessing={"layout": "ssd"}), tmp_path / "bundle")


def test_sample_images_give_statistics_and_a_preview(write_onnx_file: Callable[..., Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        Image.fromarray(np.full((64, 96, 3), 40 + 30 * number, np.uint8)).save(images / f"{number}.png")

    report = import_model(write_onnx_file({"found": YOLO}), _spec(), tmp_path / "bundle", images=[images])

    statistics = report.manifest.reference_statistics
    assert (report.sample_count, report.object_count) == (3, 3)
    assert statistics is not None
    assert statistics.images["width_px"].mean == 96
    assert statistics.confidence is not None
    assert statistics.confidence.mean == pytest.approx(0.9)
    assert {"brightness", "object_count"} <= set(statistics.features)
    with Image.open(report.bundle / "preview.jpg") as preview:
        assert preview.size == (3 * 96, 64)
    assert "preview.jpg" in report.manifest.files


def test_an_imported_model_may_run_in_openvino_too(write_onnx_file: Callable[..., Path], tmp_path: Path) -> None:
    report = import_model(write_onnx_file({"found": YOLO}), _spec(), tmp_path / "bundle")

    assert Bundle.open(report.bundle).formats == ["onnx", "openvino"]
    assert choose_format(Bundle.open(report.bundle)).reason == "onnx on cpu: imported, not certified"


@pytest.mark.parametrize(
    ("file", "spec", "message"),
    [
        pytest.param(
            {"input_shape": (1, 3, 64, 64)}, {}, r"\(1, 3, 64, 64\), the spec's .* \(any, 3, 32, 48\)", id="other_size"
        ),
        pytest.param({"input_shape": (1, 32, 48, 3)}, {}, "channels last; expected", id="channels_last"),
        pytest.param({"input_shape": (1, 1, 32, 48)}, {}, r"\(1, 1, 32, 48\), the spec's", id="grey"),
        pytest.param({"input_type": 2}, {}, r"tensor\(uint8\), expected tensor\(float\)", id="bytes"),
        pytest.param({"extra_input": True}, {}, "expected one input, the file has images, sizes", id="two_inputs"),
        pytest.param({}, {"input": "data"}, "expected the input 'data', the file has images", id="other_input"),
        pytest.param(
            {"outputs": {"a": YOLO, "b": YOLO}},
            {},
            r"takes 1 outputs: predictions \(B, 4\+C, A\); the file has a \(any, 6, 2\), b \(any, 6, 2\)",
            id="too_many_outputs",
        ),
        pytest.param(
            {"outputs": {"found": np.zeros((30, 7))}},
            {},
            r"expected \(1, 6, A\) for layout yolo and 2 classes, got \(1, 30, 7\).* would be layout yolov5 or yolox",
            id="other_layout",
        ),
        pytest.param(
            {},
            {"classes": ["cat", "dog", "owl"]},
            r"expected \(1, 7, A\) .* and 3 classes, got \(1, 6, 2\)",
            id="classes",
        ),
        pytest.param(
            {"outputs": {"found": np.zeros((30, 7))}},
            {"postprocessing": {"layout": "yolox"}},
            "an input of 48x32 px has 31 cells at strides 8, 16 and 32, the output has 30 rows",
            id="yolox_of_another_size",
        ),
        pytest.param(
            {"outputs": {"found": YOLO * 10}}, {}, "scores reach from 0 to 9, expected 0 to 1", id="scores_beyond_one"
        ),
        pytest.param({"outputs": {"found": YOLO * np.nan}}, {}, "holds NaN or infinity", id="nan"),
        pytest.param(
            {"outputs": {"found": [[1, 1, 5, 5, 0.9, 7]]}},
            {"postprocessing": {"layout": "end2end"}},
            "names class 7, there are 2 classes",
            id="class_beyond_the_list",
        ),
        pytest.param(
            {"is_batch_honest": False}, {}, "its batch is declared free, yet it fails on two images", id="batch"
        ),
        pytest.param(
            {"outputs": {"p": PROBABILITIES}},
            {"task": "classification"},
            "probabilities already .* set postprocessing.activation: none",
            id="softmax_twice",
        ),
        pytest.param(
            {"outputs": {"p": PROBABILITIES * 8}},
            {"task": "classification", "postprocessing": {"activation": "none"}},
            "from 2 to 6 and sums to 8, expected probabilities; set postprocessing.activation: softmax",
            id="no_softmax",
        ),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(
    file: dict[str, Any], spec: dict[str, Any], message: str, write_onnx_file: Callable[..., Path], tmp_path: Path
) -> None:
    model = write_onnx_file(**{"outputs": {"found": YOLO}, **file})

    with pytest.raises(ModelError, match=message):
        import_model(model, _spec(**spec), tmp_path / "bundle")

    assert not (tmp_path / "bundle").exists()


def test_files_that_are_not_there_or_no_model(write_onnx_file: Callable[..., Path], tmp_path: Path) -> None:
    model = write_onnx_file({"found": YOLO})
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")

    with pytest.raises(ConfigError, match="no such file; expected an ONNX model"):
        import_model(tmp_path / "absent.onnx", _spec(), tmp_path / "bundle")
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot load it"):
        import_model(tmp_path / "junk.onnx", _spec(), tmp_path / "bundle")
    with pytest.raises(ArtifactError, match="no output 'boxes'; it has found"):
        import_model(model, _spec(outputs=["boxes"]), tmp_path / "bundle")
    with pytest.raises(ConfigError, match="it already exists; name a new folder"):
        import_model(model, _spec(), tmp_path / "full")
    assert (tmp_path / "full" / "letter.txt").read_text() == "mine"


SPEC_TEXT = """
name: made
task: detection
classes_file: names.txt
licence: MIT
preprocessing: {resize: stretch, size_hw: [32, 48], interpolation: bilinear}
postprocessing: {layout: yolo, iou_threshold: 0.5}
"""


def test_a_spec_is_read_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n\n dog \n")
    (tmp_path / "spec.yaml").write_text(SPEC_TEXT)

    spec = read_import_spec(tmp_path / "spec.yaml")

    assert spec.classes == ["cat", "dog"]
    assert (spec.postprocessing.kind, spec.preprocessing.size_hw) == ("detection", (32, 48))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("licence: MIT", "", "licence: missing", id="no_licence"),
        pytest.param("licence: MIT", "licence: ''", "licence", id="empty_licence"),
        pytest.param("classes_file: names.txt", "", "either as classes or as classes_file", id="no_classes"),
        pytest.param("names.txt", "absent.txt", "classes_file = 'absent.txt': cannot be read", id="no_names_file"),
        pytest.param("classes_file: names.txt", "classes: [a, a]", "'a' is given twice", id="twice"),
        pytest.param("names.txt", "empty.txt", "no class name in it", id="empty_names_file"),
        pytest.param("layout: yolo", "layout: yolo99", "layout", id="unknown_layout"),
        pytest.param("name: made", "name: made\nlicense: MIT", "license: unknown key", id="unknown_key"),
        pytest.param("task: detection", "task: segmentation", "task", id="unknown_task"),
        pytest.param("{layout", "{kind: classification, layout", "postprocessing", id="kinds_differ"),
        pytest.param("preprocessing:", "size_hw: 3 #", "preprocessing: missing", id="no_preprocessing"),
    ],
)
def test_a_wrong_spec_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "spec.yaml").write_text(SPEC_TEXT.replace(old, new))

    with pytest.raises(ConfigError, match=message):
        read_import_spec(tmp_path / "spec.yaml")
