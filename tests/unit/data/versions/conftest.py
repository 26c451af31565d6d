"""Stores and datasets for the tests of versions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_dataset


@pytest.fixture(params=["folder", "file://", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store of each kind."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/datasets"
    folder = tmp_path / "a store"
    return str(folder) if request.param == "folder" else folder.as_uri()


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a dataset of noise whose item N is the same in each dataset, unless it is changed.

    `changed` items get other pixels; `added` keys stand between those that are there.
    """

    def make(name: str, count: int = 120, *, changed: range = range(0), added: int = 0, size_px: int = 24) -> Path:
        rows: list[dict[str, Any]] = []
        keys = [(f"{number:05d}", number) for number in range(count)]
        keys += [(f"{7 * number:05d}-b", 10_000 + number) for number in range(added)]
        for split in ("test", "train", "val"):
            for key, seed in sorted(keys):
                if ("val", "test", "train", "train")[seed % 4] == split:
                    random = np.random.default_rng((seed, seed in changed))
                    image = random.integers(0, 256, (size_px, size_px, 3)).astype(np.uint8)
                    label = {"class_ids": [seed % 2], "xyxy": [[1, 2, 3 + seed % 9, 9]]}
                    rows.append({"split": split, "key": f"{split}-{key}", "image": image, **label})
        return write_dataset(tmp_path / name, task="detection", classes=["cone", "cube"], rows=rows)

    return make
