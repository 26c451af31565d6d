"""Whole runs on this machine, as a user starts them: finished, killed in every stage, interrupted, refused."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.fixtures.red_detector import write_detector
from visionyard.cli.run_folder import RunFolder
from visionyard.cli.stages import TRAIN_MODEL_STAGES
from visionyard.data.dataset import Dataset
from visionyard.events import read_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _photos(folder: Path, count: int = 10) -> Path:
    random = np.random.default_rng(0)
    for name, colour in (("blue", (30, 60, 200)), ("yellow", (230, 200, 40))):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = random.integers(0, 60, (72, 96, 3)) + np.array(colour) * 3 // 4
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.jpg")
    return folder


def _config(folder: Path, source: Path, **training: Any) -> Path:
    path = folder / "run.yaml"
    values = {
        "name": "colours",
        "data": {"source": str(source)},
        "model": {"name": "torchvision-classification", "preset": "mobilenet_v3_small"},
        "training": {"epochs": 2, "batch_size": 4, "image_size_px": 64, "device": "cpu", **training},
        "benchmark": {"batch_sizes": [1], "threads": [1], "repeat_count": 5},
    }
    path.write_text(yaml.safe_dump(values))
    return path


def _command(config: Path) -> list[str]:
    return [sys.executable, "-m", "visionyard", "run", str(config)]


def _run(config: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        _command(config),
        cwd=config.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


def _wait_for(folder: RunFolder, kind: str, stage: str, *, since: int) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for event in read_events(folder.events)[since:]:
            if event["kind"] == kind and event["stage"] == stage:
                return event
        time.sleep(0.02)
    raise AssertionError(f"{stage}: no {kind} event in 120 s")


def _page_content(folder: RunFolder) -> Any:
    block = re.search(r'id="content">(.*?)</script>', folder.report.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return json.loads(block[1])


def test_a_run_killed_in_every_stage_ends_as_one_that_never_was(tmp_path: Path):
    """Each stage is killed as soon as it has started, hard; the same command goes on; the result is the same."""
    source = _photos(tmp_path / "photos")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = _config(tmp_path / "whole", source)
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: EUR\ncpu_hour: 0.36\n")
    done = _run(whole, VISIONYARD_PRICES=str(prices))
    assert done.returncode == 0, done.stdout
    assert re.search(r"^Cost     0\.\d{4} EUR$", done.stdout, re.MULTILINE)
    page = _page_content(RunFolder(tmp_path / "whole/runs/colours-1"))
    assert page["promotion"]["verdict"] == "promote"
    assert [stage["stage"] for stage in page["cost"]["stages"]] == [stage.name for stage in TRAIN_MODEL_STAGES]

    config = _config(tmp_path / "killed", source)
    folder = RunFolder(tmp_path / "killed/runs/colours-1")
    for stage in TRAIN_MODEL_STAGES:
        seen = len(read_events(folder.events))
        with subprocess.Popen(
            _command(config), cwd=config.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run:
            os.kill(_wait_for(folder, "stage_started", stage.name, since=seen)["pid"], signal.SIGKILL)
            text, _ = run.communicate(timeout=120)
        assert run.returncode == 1, text
        assert f"{stage.title} started and never ended: its process was killed" in text
        assert folder.status()["status"] == "failed"
        assert not [
            place for place in stage.places.values() if place != "report.html" and (folder.path / place).exists()
        ]

    seen = len(read_events(folder.events))
    done = _run(config)
    assert done.returncode == 0, done.stdout
    assert "going on with colours-1" in done.stdout
    started = [event["stage"] for event in read_events(folder.events)[seen:] if event["kind"] == "stage_started"]
    assert started == ["promote_model", "deploy_model"], "all others come from the cache; these two always look anew"
    for place in ("report.html", "evaluation/metrics.json", "bundle/model.json", "model/checkpoint.pt", "dataset"):
        assert (folder.path / place).exists()
    first, second = (
        json.loads((tmp_path / name / "runs/colours-1/bundle/model.json").read_text()) for name in ("whole", "killed")
    )
    for key in ("dataset_digest", "checkpoint_digest", "metrics", "formats"):
        assert first[key] == second[key], key


def test_a_changed_file_of_splits_or_detector_ends_what_is_cached(tmp_path: Path):
    source = _photos(tmp_path / "photos")
    for path in source.glob("yellow/*.jpg"):
        image = Image.open(path)
        image.paste((250, 10, 10), (24, 18, 48, 45))
        image.save(path, quality=95)
    detector = write_detector(tmp_path / "detector")
    splits = tmp_path / "splits.csv"
    splits.write_text("name,split\nblue/3.jpg,test\nyellow/7.jpg,val\n")
    config = _config(tmp_path, source, epochs=1)
    values = yaml.safe_load(config.read_text())
    values["data"] |= {"split_file": "splits.csv", "near_duplicates": "report", "allow_leak": True}
    values["frames"] = {"anonymize": {"model": "detector/red.onnx", "method": "pixelate"}}
    config.write_text(yaml.safe_dump(values))
    folder = RunFolder(tmp_path / "runs/colours-1")

    def run_until(stage: str) -> tuple[list[str], dict[str, Any], dict[str, str]]:
        seen = len(read_events(folder.events))
        with subprocess.Popen(_command(config), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
            _wait_for(folder, "stage_started", stage, since=seen)
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=60)
        started = [event["stage"] for event in read_events(folder.events)[seen:] if event["kind"] == "stage_started"]
        dataset = Dataset(folder.path / "dataset")
        found = {sample.source: split for split in ("train", "val", "test") for sample in dataset.samples(split)}
        return started, dataset.info, found

    _, info, found = run_until("train_model")
    assert (found["blue/3.jpg"], found["yellow/7.jpg"]) == ("test", "val")
    assert info["anonymization"]["sources"]["image_count"] == 10
    assert info["anonymization"]["sources"]["method"] == "pixelate"
    assert run_until("train_model")[0] == ["train_model"], "what is before it comes from the cache"

    splits.write_text("name,split\nblue/3.jpg,val\n")
    started, changed, found = run_until("train_model")
    assert started == ["prepare_dataset", "train_model"]
    assert found["blue/3.jpg"] == "val" and changed["digest"] != info["digest"]

    spec = detector.with_name("red.spec.yaml")
    spec.write_text(spec.read_text().replace("CC0-1.0", "MIT"))
    started, _, _ = run_until("prepare_dataset")
    assert started == ["ingest_dataset", "extract_frames", "prepare_dataset"]


def test_an_interrupt_ends_cleanly_and_leaves_no_process(tmp_path: Path):
    config = _config(tmp_path, _photos(tmp_path / "photos"), epochs=500)
    folder = RunFolder(tmp_path / "runs/colours-1")
    with subprocess.Popen(
        _command(config), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        _wait_for(folder, "epoch", "train_model", since=0)
        pid = _wait_for(folder, "stage_started", "train_model", since=0)["pid"]
        run.send_signal(signal.SIGINT)
        text, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "stopped. The same command goes on where it stopped." in text
    assert folder.status()["status"] == "stopped"
    assert not Path(f"/proc/{pid}").exists()
    failed = [event for event in read_events(folder.events) if event["kind"] == "stage_failed"]
    assert failed[-1]["report"]["exit_class"] == "preempted"


def _tracked_status(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("select status from runs").fetchone()[0]


@pytest.mark.parametrize(
    ("counts", "part"),
    [
        ({"blue": 6}, "class"),
        ({"blue": 6, "yellow": 1}, "yellow"),
    ],
    ids=["one class only", "a class with a single group"],
)
def test_data_that_cannot_be_split_fails_with_the_way_out(counts: dict[str, int], part: str, tmp_path: Path):
    source = _photos(tmp_path / "photos")
    for name in ("blue", "yellow"):
        for path in sorted((source / name).iterdir())[counts.get(name, 0) :]:
            path.unlink()
        if not counts.get(name):
            (source / name).rmdir()
    done = _run(_config(tmp_path, source))
    assert done.returncode == 1
    assert "Prepare dataset failed (bad_data)" in done.stdout
    assert part in done.stdout
    assert "What to do:" in done.stdout
    assert "Log: runs/colours-1/pipeline.log" in done.stdout
    assert _tracked_status(tmp_path / "runs/mlflow.db") == "FAILED"
    assert not (tmp_path / "runs/colours-1/dataset").exists()
