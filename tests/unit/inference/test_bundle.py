"""A bundle opens when every file is as its manifest says, and is refused by name otherwise."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionyard.errors import ArtifactError, ConfigError
from visionyard.inference import Bundle, BundleManifest


@pytest.fixture
def bundle(tiny_bundle: Callable[..., Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle("detection")[0], tmp_path / "bundle"))


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / "model.json").read_text())
    change(values)
    (folder / "model.json").write_text(json.dumps(values))


def test_opens_and_reads_back_what_was_written(bundle: Path) -> None:
    opened = Bundle.open(bundle)

    text = (bundle / "model.json").read_text(encoding="utf-8")
    assert opened.manifest.to_text() == text
    assert BundleManifest.model_validate_json(text) == opened.manifest
    assert opened.manifest.classes == ["blue", "red"]
    assert opened.format_name() == "onnx"
    assert opened.format_path("torchscript") == bundle / "model.torchscript"
    assert len(opened.digest) == 64


def test_flipped_byte_is_refused_by_file_and_hash(bundle: Path) -> None:
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)

    with pytest.raises(ArtifactError, match=r"model\.onnx: expected SHA-256 .* the file was altered"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "model.torchscript", "parity.json", "README.md"])
def test_every_file_is_verified(name: str, bundle: Path) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes() + b" ")
    with pytest.raises(ArtifactError, match=rf"{name}: expected \d+ bytes"):
        Bundle.open(bundle)

    (bundle / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: the bundle's file is missing"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda v: v.update(schema_version=2), "schema_version 2 is not known, expected 1", id="version"),
        pytest.param(lambda v: v.pop("schema_version"), "schema_version None", id="no_version"),
        pytest.param(lambda v: v.update(colour="red"), "colour: unknown key", id="unknown_key"),
        pytest.param(lambda v: v.pop("classes"), "classes: missing", id="missing_key"),
        pytest.param(lambda v: v.update(classes=[]), "classes", id="no_classes"),
        pytest.param(lambda v: v.update(task="classification"), "postprocessing is for detection", id="other_task"),
        pytest.param(
            lambda v: v["files"].update({"../evil": v["files"].pop("README.md")}), r"\.\./evil", id="path_traversal"
        ),
        pytest.param(lambda v: v["formats"]["onnx"].update(file="/etc/passwd"), "/etc/passwd", id="absolute_path"),
        pytest.param(lambda v: v["files"].pop("model.onnx"), "formats.onnx: model.onnx is not among files", id="loose"),
    ],
)
def test_refuses_a_manifest_that_is_wrong(
    change: Callable[[dict[str, Any]], object], message: str, bundle: Path
) -> None:
    _edit(bundle, change)

    with pytest.raises(ArtifactError, match=message):
        Bundle.open(bundle)


def test_refuses_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected a model bundle with model\.json"):
        Bundle.open(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        Bundle.open(tmp_path)


def test_names_the_formats_it_has(bundle: Path) -> None:
    with pytest.raises(ConfigError, match="no format 'tensorrt'; it has onnx, torchscript"):
        Bundle.open(bundle).backend("tensorrt")


def test_an_onnx_bundle_runs_without_torch_or_pyarrow(bundle: Path) -> None:
    script = f"""
import sys
for name in ("torch", "pyarrow", "av"):
    sys.modules[name] = None
import numpy as np
from pathlib import Path
from visionyard.inference import Predictor
image = np.full((80, 96, 3), 120, np.uint8)
image[20:36, 30:46] = (220, 40, 30)
(found,) = Predictor.from_bundle(Path({str(bundle)!r})).predict([image])
print(len(found), int(found.class_ids[0]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split()[1] == "1"


def test_a_bundle_of_before_several_outputs_still_opens(bundle: Path) -> None:
    def make_old(values: dict[str, Any]) -> None:
        (values["output"],) = values.pop("outputs")
        for new in ("origin", "source"):
            del values[new]
        del values["preprocessing"]["pad_side"]
        for proof in values["parity"]["formats"].values():
            del proof["score_tolerance"], proof["metric_tolerance"]

    _edit(bundle, make_old)

    manifest = Bundle.open(bundle).manifest
    assert (manifest.origin, manifest.preprocessing.pad_side) == ("trained", "both")
    assert [(one.name, one.shape) for one in manifest.outputs] == [("output", [-1, 6, 441])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"parity": None}, "a trained model's bundle has parity", id="no_certificate"),
        pytest.param({"outputs": []}, "outputs", id="no_output"),
        pytest.param(
            {"outputs": [{"name": name, "shape": [-1, 6, 441]} for name in "ab"]},
            "outputs: the postprocessing takes 1, got 2",
            id="too_many_outputs",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change: dict[str, Any], message: str, bundle: Path) -> None:
    _edit(bundle, lambda values: values.update(change))

    with pytest.raises(ArtifactError, match=message):
        Bundle.open(bundle)
