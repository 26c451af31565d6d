"""From settings to what hides: bundles and ONNX files, on disk and in a store; what does not fit is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from visionyard import storage
from visionyard.anonymization import input_addresses, open_anonymizing, parse_anonymize
from visionyard.anonymization.anonymizer import Anonymizer, AnonymizerSettings
from visionyard.config.run_config import AnonymizeConfig
from visionyard.errors import ArtifactError, ConfigError
from visionyard.export.import_spec import read_import_spec
from visionyard.export.importing import import_model


def settings(model: Path | str, **changes: Any) -> AnonymizeConfig:
    return AnonymizeConfig.model_validate({"model": str(model), "padding": 0.0, **changes})


@pytest.fixture
def red_bundle(red_detector: Path, tmp_path: Path) -> Path:
    return import_model(
        red_detector, read_import_spec(red_detector.with_name("red.spec.yaml")), tmp_path / "bundle"
    ).bundle


def test_no_model_hides_nothing() -> None:
    with open_anonymizing(AnonymizeConfig()) as retouching:
        assert retouching is None
    assert input_addresses(AnonymizeConfig()) == []


def test_what_the_detector_finds_is_hidden(red_detector: Path, textured: Callable[..., np.ndarray]) -> None:
    image = textured()
    with open_anonymizing(settings(red_detector)) as retouching:
        assert retouching is not None
        hidden, count = retouching.retouch(image)
        again, _ = retouching.retouch(image)
        plain, none = retouching.retouch(np.full((160, 320, 3), 90, np.uint8))
    np.testing.assert_array_equal(hidden, again)
    # Cells are 40 x 20 px: the square of 40 px covers two.
    assert (count, none) == (2, 0)
    assert (plain == 90).all()
    square = hidden[40:80, 80:120].astype(int)
    assert (
        np.abs(np.diff(square[..., 0], axis=0)).mean()
        < 4
        < np.abs(np.diff(image[40:80, 80:120, 0].astype(int), axis=0)).mean()
    )
    outside = np.ones(image.shape[:2], bool)
    outside[40:80, 80:120] = False
    np.testing.assert_array_equal(hidden[outside], image[outside])


def test_a_bundle_does_the_same_as_the_file_it_was_made_of(
    red_detector: Path, red_bundle: Path, textured: Callable[..., np.ndarray]
) -> None:
    found, told = [], []
    for model in (red_detector, red_bundle):
        with open_anonymizing(settings(model)) as retouching:
            assert retouching is not None
            found.append(retouching.retouch(textured())[0])
            told.append(retouching.values)
    np.testing.assert_array_equal(*found)
    assert told[0] == told[1]
    assert told[0]["model"] == "red-squares" and not any(
        str(red_bundle.parent) in str(value) for value in told[0].values()
    )


@pytest.mark.parametrize("kind", ["bundle", "file"])
def test_a_model_in_a_store(kind: str, red_detector: Path, red_bundle: Path, s3: str, textured: Any) -> None:
    if kind == "bundle":
        storage.upload_folder(red_bundle, f"{s3}/detectors/red")
        model = f"{s3}/detectors/red"
    else:
        storage.upload_folder(red_detector.parent, f"{s3}/files")
        model = f"{s3}/files/red.onnx"
    with open_anonymizing(settings(model)) as retouching:
        assert retouching is not None and retouching.retouch(textured())[1] == 2


def test_the_addresses_that_a_digest_is_taken_of(red_detector: Path) -> None:
    assert input_addresses(settings("s3://yard/faces")) == ["s3://yard/faces"]
    assert input_addresses(settings("faces.ONNX")) == ["faces.ONNX", "faces.spec.yaml"]
    assert input_addresses(settings("a/faces.onnx", spec="b.yaml")) == ["a/faces.onnx", "b.yaml"]


@pytest.mark.parametrize("name", ["confidence", "padding", "method", "classes", "spec", "weights"])
def test_what_the_result_depends_on_is_told(name: str, red_detector: Path) -> None:
    changes: dict[str, Any] = {"confidence": 0.6, "padding": 0.4, "method": "fill"}
    with open_anonymizing(settings(red_detector)) as before:
        pass
    if name == "spec":
        spec = red_detector.with_name("red.spec.yaml")
        values = yaml.safe_load(spec.read_text())
        values["postprocessing"]["iou_threshold"] = 0.3
        spec.write_text(yaml.safe_dump(values))
    elif name == "weights":
        import onnx

        model = onnx.load(str(red_detector))
        model.graph.initializer[0].raw_data = np.array([2, -1, -1], np.float32).tobytes()
        onnx.save(model, str(red_detector))
    elif name == "classes":
        spec = red_detector.with_name("red.spec.yaml")
        spec.write_text(spec.read_text().replace("- red\n", "- rouge\n"))
    with open_anonymizing(settings(red_detector, **({name: changes[name]} if name in changes else {}))) as after:
        pass
    assert before is not None and after is not None
    assert before.values != after.values


def test_a_detector_that_changes_while_it_is_in_use_is_refused(red_bundle: Path) -> None:
    with open_anonymizing(settings(red_bundle)) as retouching:
        assert retouching is not None
        text = retouching.decoder_command[-1]
    made = AnonymizerSettings.from_text(text)
    Anonymizer(made).close()
    manifest = red_bundle / "model.json"
    manifest.write_text(manifest.read_text().replace('"red-squares"', '"other"'))
    with pytest.raises(ArtifactError, match="the detector changed while it was in use"):
        Anonymizer(made)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"model": "none.onnx"}, r"frames.anonymize.model = '.*none.onnx': no such file", id="no file"),
        pytest.param({"model": "none"}, r"frames.anonymize.model = '.*none': no such file or folder", id="no bundle"),
        pytest.param({"model": "detector"}, "expected a model bundle with model.json, found none", id="other folder"),
        pytest.param(
            {"spec": "none.yaml"}, r"frames.anonymize.spec = 'none.yaml': no such file.*bundle import", id="spec"
        ),
        pytest.param({"classes": ["red", "plate"]}, "classes holds plate; the detector knows red", id="class"),
    ],
)
def test_a_model_that_is_not_there_is_refused(
    changes: dict[str, Any], message: str, red_detector: Path, tmp_path: Path
) -> None:
    values = {"model": str(red_detector), **changes}
    values["model"] = str(tmp_path / values["model"])
    with pytest.raises(ConfigError, match=message), open_anonymizing(settings(values.pop("model"), **values)):
        pass


def test_a_spec_that_does_not_fit_is_refused(red_detector: Path) -> None:
    spec = red_detector.with_name("red.spec.yaml")
    values = yaml.safe_load(spec.read_text())
    values["postprocessing"]["layout"] = "yolo"
    spec.write_text(yaml.safe_dump(values))
    with (
        pytest.raises(ConfigError, match=r"red.onnx.*the postprocessing takes 1 outputs"),
        open_anonymizing(settings(red_detector)),
    ):
        pass


def test_a_classifier_is_refused(tiny_bundle: Callable[[str], tuple[Path, Path]]) -> None:
    bundle, _ = tiny_bundle("classification")
    with (
        pytest.raises(ConfigError, match="it is for classification; expected a detector"),
        open_anonymizing(settings(bundle)),
    ):
        pass


def test_a_spec_beside_a_bundle_is_refused(red_bundle: Path) -> None:
    with (
        pytest.raises(ConfigError, match="is a bundle, with its own"),
        open_anonymizing(settings(red_bundle, spec="a.yaml")),
    ):
        pass


def test_a_bundle_that_was_altered_is_refused(red_bundle: Path) -> None:
    shutil.copy(red_bundle / "README.md", red_bundle / "model.onnx")
    with (
        pytest.raises(ConfigError, match=r"frames.anonymize.model.*model.onnx"),
        open_anonymizing(settings(red_bundle)),
    ):
        pass


def test_wrong_values_are_told_together() -> None:
    with pytest.raises(ConfigError) as told:
        parse_anonymize({"confidence": 1.5, "method": "smear", "padding": -1})
    assert [problem.split(" =")[0] for problem in told.value.problems] == [
        "frames.anonymize.confidence",
        "frames.anonymize.padding",
        "frames.anonymize.method",
    ]
