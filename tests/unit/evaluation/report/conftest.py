"""What a report is made from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def write_json() -> Callable[[Path, Any], Path]:
    """Return a function that writes JSON into a new folder and returns the folder."""

    def write(path: Path, values: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
        return path.parent

    return write


@pytest.fixture(scope="session")
def training_values() -> dict[str, Any]:
    """Return the settings that a training writes down."""
    plan = {"model_name": "yolo-detection", "preset": "tiny", "image_size_px": 64, "batch_size": 4, "weights": ""}
    return {"schema_version": 1, "plan": plan, "device": "cpu", "best_epoch": 2}


@pytest.fixture(scope="session")
def bundle_values() -> dict[str, Any]:
    """Return the manifest of a model bundle, as far as the report reads it."""
    forms = {"onnx": {"file": "model.onnx", "sha256": "1" * 64}}
    return {
        "schema_version": 1,
        "name": "cells",
        "licence": "Apache-2.0",
        "checkpoint_digest": "c" * 64,
        "formats": forms,
    }


@pytest.fixture(scope="session")
def parity_values() -> dict[str, Any]:
    """Return a parity certificate whose exact format failed on one image, and whose lossy one passed."""
    row = {"image": "item-001", "kind": "real", "compared": 3, "missing": 0, "extra": 0, "iou_gap": None}
    rows = [
        {**row, "score_gap": 1e-6, "verdict": "same", "problems": []},
        {**row, "score_gap": 0.2, "verdict": "differs", "problems": ["score differs by 0.2, allowed 0.001"]},
    ]
    result = {"is_passed": False, "metric": 0.5, "metric_gap": 0.0, "problems": [], "rows": rows}
    lossy = {
        **result,
        "is_passed": True,
        "metric": 0.493,
        "metric_gap": 0.007,
        "tolerances": {"score": None, "box": None, "metric": 0.01},
        "rows": [{**row, "score_gap": 0.3, "verdict": "not judged", "problems": []}],
    }
    return {
        "schema_version": 1,
        "is_passed": False,
        "tolerances": {"score": 0.001, "metric": 0.001, "box_iou": 0.99, "score_applied": 0.001},
        "metric_name": "map_50_95",
        "reference_metric": 0.5,
        "formats": {"onnx": result, "onnx-int8": lossy},
    }


@pytest.fixture(scope="session")
def verdict_values() -> dict[str, Any]:
    """Return the verdict of a promotion that was rejected for one class."""
    change = {"champion": 0.9, "challenger": 0.95, "low": 0.01, "high": 0.09, "is_over_budget": False}
    return {
        "schema_version": 1,
        "verdict": "reject",
        "is_pending": False,
        "reasons": ["class <b>dog</b> gets worse"],
        "task": "detection",
        "metric": {
            "name": "map_50",
            "champion": 0.8,
            "challenger": 0.82,
            "difference": 0.02,
            "low": -0.01,
            "high": 0.05,
        },
        "champion": {"model": "cells", "version": 3, "bundle_digest": "a" * 64},
        "challenger": {"bundle_digest": "b" * 64},
        "per_class": [
            {**change, "name": "cat"},
            {**change, "name": "dog", "challenger": 0.7, "low": None, "high": None, "is_over_budget": True},
        ],
        "statistics": {"class_metric": "ap_50", "confidence": 0.95, "groups": 12},
        "approval": None,
        "dataset_digest": "d" * 64,
    }


@pytest.fixture(scope="session")
def benchmark_values() -> dict[str, Any]:
    """Return the measurements of a benchmark with two combinations."""
    phases = {"decode_ms": 1.0, "preprocess_ms": 0.5, "infer_ms": 8.0, "postprocess_ms": 0.5}
    sizes = {"load_ms": 50.0, "peak_memory_bytes": 200_000_000, "file_bytes": 5_000_000, "images_per_s": 100.0}
    rows = [
        {"format": "onnx", "batch_size": 1, "threads": threads, "p50_ms": p50, "p95_ms": p50 + 1, "p99_ms": p50 + 2}
        | phases
        | sizes
        for threads, p50 in ((1, 12.5), (2, 7.5))
    ]
    return {
        "schema_version": 1,
        "measurements": rows,
        "skipped": [],
        "fastest": rows[1],
        "most_images_per_s": rows[1],
        "machine": {"cpu": "a processor", "cores": 2},
    }
