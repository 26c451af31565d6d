"""The dataset commands, run as a person types them but in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from visionyard.cli.app import app


@pytest.fixture
def dataset_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs `visionyard dataset <arguments>` on a wide terminal; errors are raised."""

    def run(*arguments: Any) -> Result:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["dataset", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def voc_folder(tmp_path: Path) -> Path:
    """Write three small images with Pascal VOC labels, one box of no area among them."""
    import numpy as np
    from PIL import Image

    folder = tmp_path / "voc"
    folder.mkdir()
    boxes = {
        "a": [("cat", 1, 1, 9, 9), ("dog", 2, 2, 20, 20)],
        "b": [("cat", 0, 0, 30, 20)],
        "c": [("dog", 5, 5, 5, 9)],
    }
    for seed, (name, found) in enumerate(boxes.items()):
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object>"
            for label, left, top, right, bottom in found
        )
        (folder / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    return folder
