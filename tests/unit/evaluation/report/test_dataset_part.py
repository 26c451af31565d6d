"""The page's part on the data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from visionyard.data.dataset import DATASET, Dataset
from visionyard.evaluation.report.dataset_part import dataset_part


def test_what_was_hidden_is_told(tiny_dataset: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_dataset("detection"), tmp_path / "dataset"))
    info = json.loads((folder / DATASET).read_text())
    del info["leak"]  # this one has no examples
    (folder / DATASET).write_text(json.dumps(info))
    assert dataset_part(Dataset(folder))["hidden"] == ""
    told = {"model": "ultraface", "classes": ["face"], "confidence": 0.3, "padding": 0.15, "method": "blur"}
    info["anonymization"] = {
        "sources": {**told, "image_count": 0, "region_count": 0},
        "frames": {**told, "image_count": 7, "region_count": 9},
    }
    (folder / DATASET).write_text(json.dumps(info))
    assert dataset_part(Dataset(folder))["hidden"] == (
        "Anonymized before it was stored (blur): 9 regions in 7 images, classes face, found by ultraface from "
        "confidence 0.3 on."
    )
