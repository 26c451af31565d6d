"""The snippets of docs/serving.md: shown as they are, and run against a real server where the tool is at hand."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"
SNIPPETS = sorted((DOCS / "snippets").iterdir())
LANGUAGES = {".sh": "sh", ".py": "python", ".mjs": "js", ".go": "go"}
COMMANDS = {
    ".sh": ("curl", ["bash", "-e"]),
    ".py": (sys.executable, [sys.executable]),
    ".mjs": ("node", ["node"]),
    ".go": ("go", ["go", "run"]),
}


@pytest.fixture(scope="module")
def alone(start_server: Callable[..., Any], bundle_paths: dict[str, Path]) -> Any:
    """Return a server with the detector only."""
    return start_server(str(bundle_paths["boxes"]), "--name", "boxes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = np.full((80, 96, 3), 120, np.uint8)
    image[20:36, 10:26] = (220, 40, 30)
    Image.fromarray(image).save(tmp_path / "image.jpg", quality=95)
    return tmp_path


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.name)
def test_the_page_shows_the_file(path: Path) -> None:
    shown = (DOCS / "serving.md").read_text(encoding="utf-8")
    assert f"```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}```\n" in shown


# Go compiles its net/http first, which takes a minute on two cores until its cache has it.
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.suffix == ".go")) for path in SNIPPETS],
    ids=lambda path: path.name,
)
def test_the_snippet_runs(path: Path, alone: Any, folder: Path) -> None:
    tool, command = COMMANDS[path.suffix]
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    environment = {
        **os.environ,
        "URL": alone.url,
        "GRPC_URL": f"grpc://{alone.grpc}",
        "MODEL": "boxes",
        # Only the standard library: nothing is fetched.
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
    }
    done = subprocess.run(
        [*command, str(path)], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "red" in done.stdout
    if path.name == "predict.sh":
        with Image.open(folder / "drawn.jpg") as drawn:
            assert drawn.size == (96, 80)
