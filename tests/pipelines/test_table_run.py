"""A whole run on a table, as a user starts it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.fixtures.tiny_tables import table_text
from visionyard.cli.stages import TRAIN_MODEL_STAGES
from visionyard.events import read_events
from visionyard.inference import Bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_table_goes_in_and_a_promoted_bundle_comes_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(table_text(300))
    config = {
        "name": "rows",
        "data": {"source": "t.csv", "kind": "table", "target": "kind"},
        "model": {"name": "tabular-classification"},
        "training": {"epochs": 10, "device": "cpu"},
        "export": {"formats": ["onnx"]},
        "benchmark": {"batch_sizes": [1, 64], "threads": [1], "repeat_count": 5},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "visionyard", "run", "run.yaml"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs/rows-1"
    ended = [event for event in read_events(folder / "events.jsonl") if event["kind"] == "stage_finished"]
    assert [event["stage"] for event in ended] == [stage.name for stage in TRAIN_MODEL_STAGES]
    assert {"row_count", "rows", "rows_per_s"} <= {name for event in ended for name in event["figures"]}
    page = re.search(r'id="content">(.*?)</script>', (folder / "report.html").read_text(encoding="utf-8"), re.DOTALL)
    assert page is not None
    content = json.loads(page[1])
    assert (content["item"], content["parity"]["is_passed"]) == ("row", True)
    assert (content["promotion"]["verdict"], content["metrics"]["metric"]["value"] > 0.7) == ("promote", True)
    manifest = Bundle.open(folder / "bundle").manifest
    assert (manifest.plugin, sorted(manifest.formats)) == ("tabular-classification", ["onnx"])
