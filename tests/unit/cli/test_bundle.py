"""`visionyard bundle`: import, show, verify as a user types them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visionyard.cli.app import app
from visionyard.errors import ArtifactError, ConfigError, ModelError
from visionyard.inference import Bundle, choose_format

SPEC = """
name: squares
task: classification
classes: [blue, red]
licence: Apache-2.0
source: made by hand
preprocessing: {resize: stretch, size_hw: [32, 32], interpolation: bilinear, mean: [0.5, 0.5, 0.5]}
"""


def _run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["bundle", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.fixture
def model(tiny_bundle: Callable[..., Any], tmp_path: Path) -> Path:
    """An ONNX file and, beside it, its spec."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    return Path(shutil.copyfile(tiny_bundle("classification")[0] / "model.onnx", tmp_path / "squares.onnx"))


def test_import_show_verify(model: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40, 3), (220, 40, 30), np.uint8)).save(tmp_path / "red.png")

    made = _run(
        "import",
        model,
        "--spec",
        tmp_path / "spec.yaml",
        "--out",
        tmp_path / "bundle",
        "--images",
        tmp_path / "red.png",
    )
    shown = _run("show", tmp_path / "bundle")
    verified = _run("verify", tmp_path / "bundle")

    assert "classification, 2 classes, imported" in made
    assert "1 sample images, 1 images classified" in made
    for text in ("squares", "blue, red", "Apache-2.0", "made by hand", "images (batch, 3, 32, 32)", "not certified"):
        assert text in shown
    digest = Bundle.open(tmp_path / "bundle").digest
    assert f"3 files as {tmp_path / 'bundle' / 'model.json'} says, digest {digest}" in verified


def test_import_without_images_says_what_is_missing(model: Path, tmp_path: Path) -> None:
    made = _run("import", model, "--spec", tmp_path / "spec.yaml", "--out", tmp_path / "bundle")

    assert "tried on noise only: give --images" in made


def test_show_of_a_trained_bundle(tiny_bundle: Callable[..., Any]) -> None:
    shown = _run("show", tiny_bundle("detection")[0])

    for text in ("tiny", "detection, 2 classes, hand-made squares, trained here", "map_50_95", "torchscript"):
        assert text in shown
    assert "passed: map_50_95 differs by 0.0000, allowed 0.001" in shown


def test_what_fails_says_why(model: Path, tiny_bundle: Callable[..., Any], tmp_path: Path) -> None:
    broken = Path(shutil.copytree(tiny_bundle("detection")[0], tmp_path / "broken"))
    (broken / "model.onnx").write_bytes(b"")
    (tmp_path / "wrong.yaml").write_text(SPEC.replace("[32, 32]", "[64, 64]"))
    invoke = CliRunner().invoke

    for arguments, error in [
        (["verify", broken], ArtifactError),
        (["show", tmp_path], ArtifactError),
        (["import", model, "--spec", tmp_path / "wrong.yaml", "--out", tmp_path / "new"], ModelError),
        (["import", model, "--spec", tmp_path / "absent.yaml", "--out", tmp_path / "new"], ConfigError),
    ]:
        assert isinstance(invoke(app, ["bundle", *map(str, arguments)]).exception, error)
    assert not (tmp_path / "new").exists()


def test_a_kept_benchmark_tells_the_fastest_format(tiny_bundle: Callable[..., Any], tmp_path: Path) -> None:
    source, dataset = tiny_bundle("classification")
    folder = Path(shutil.copytree(source, tmp_path / "bundle"))
    digest = Bundle.open(folder).digest

    done = CliRunner().invoke(
        app,
        [
            *("benchmark", str(folder), "--dataset", str(dataset), "--out", str(tmp_path / "figures"), "--keep"),
            *("--batch-sizes", "1", "--threads", "1", "--repeat-count", "5"),
        ],
        catch_exceptions=False,
    )

    fastest = json.loads((folder / "benchmark.json").read_text())["fastest"]["format"]
    assert done.exit_code == 0, done.output
    assert f"{fastest} on cpu: the fastest of" in " ".join(done.output.split())
    assert choose_format(Bundle.open(folder), device="cpu").format == fastest
    assert Bundle.open(folder).digest == digest


def test_check_knows_before_the_training_that_openvino_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionyard.cli import check
    from visionyard.config import parse_run_config

    (tmp_path / "a.txt").write_text("a")
    config = parse_run_config({"data": {"source": str(tmp_path)}, "export": {"formats": ["onnx", "openvino"]}})

    monkeypatch.setattr(check, "find_spec", lambda name: None)
    assert any(
        "export.formats holds 'openvino', which is not installed" in text for text in check.find_problems(config)
    )
    monkeypatch.setattr(check, "find_spec", lambda name: object())
    assert not any("openvino" in text for text in check.find_problems(config))
