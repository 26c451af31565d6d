import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionyard.data.dataset import Dataset
from visionyard.errors import ArtifactError
from visionyard.evaluation import build_report, evaluate
from visionyard.transforms import Classification, Detections

A = (0.0, 0.0, 20.0, 20.0)
WriteJson = Callable[[Path, Any], Path]


@pytest.fixture
def folders(
    make_dataset: Callable[..., Dataset], boxes: Callable[..., Detections], scripted: Any, tmp_path: Path
) -> dict[str, Path]:
    rows = [{"split": split, "class_ids": [0], "boxes": [*A]} for split in ("train", "val", "test", "test")]
    problems = [{"code": "box_without_area", "file": f"{n}.xml", "item": "", "message": "left out"} for n in range(130)]
    dataset = make_dataset("detection", ["cat"], rows, problems=problems)
    evaluation = tmp_path / "evaluation"
    evaluate(
        scripted(["cat"], [boxes((0, 0.9, *A)), boxes((0, 0.1, *A))]),
        dataset,
        evaluation,
        confidence_threshold=0.25,
        iou_threshold=0.5,
        lineage={"checkpoint_digest": "c" * 64},
        curves=[{"epoch": 1, "train_loss": 2.0}],
    )
    return {"evaluation": evaluation, "dataset": dataset.folder}


def _content(page: Path) -> Any:
    block = re.search(r'id="content">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return json.loads(block[1])


def test_what_has_not_run_is_absent(folders: dict[str, Path], tmp_path: Path) -> None:
    content = _content(build_report(tmp_path / "deep" / "report.html", **folders))
    later = ("parity", "benchmark", "promotion", "cost")
    assert [content[name] for name in later] == [None] * 4
    assert content["training"]["facts"] == {}
    assert content["title"] == "Training report"
    assert content["lineage"] == {"checkpoint_digest": "c" * 64, "dataset_digest": "d" * 64}
    assert content["images"]["total"] == 2
    worst, best = content["images"]["shown"]
    assert (worst["counts"], worst["cells"], worst["found"]) == ([0, 0, 1], [[0, 1]], [])
    assert (best["counts"], best["cells"], best["truth"]) == ([1, 0, 0], [[0, 0]], [[0, 0, *A]])
    (problem,) = content["data"]["problems"]
    assert (problem["count"], len(problem["listed"])) == (130, 100)


def test_everything_there_is(
    folders: dict[str, Path],
    tmp_path: Path,
    write_json: WriteJson,
    training_values: Any,
    bundle_values: Any,
    parity_values: Any,
    benchmark_values: Any,
    verdict_values: Any,
) -> None:
    bundle = write_json(tmp_path / "bundle" / "model.json", bundle_values)
    write_json(bundle / "parity.json", parity_values)
    page = build_report(
        tmp_path / "report.html",
        **folders,
        training=write_json(tmp_path / "training" / "training.json", training_values),
        bundle=bundle,
        benchmark=write_json(tmp_path / "benchmark" / "benchmark.json", benchmark_values),
        verdict=write_json(tmp_path / "verdict" / "verdict.json", verdict_values),
        cost={"total": 0.25},
        lineage={"commit": "abc"},
        title="run-1",
    )
    content = _content(page)
    assert content["training"]["facts"]["model_name"] == "yolo-detection"
    assert "weights" not in content["training"]["facts"]
    assert content["parity"]["is_passed"] is False
    assert content["benchmark"]["fastest"]["p50_ms"] == 7.5
    assert content["promotion"]["verdict"] == "reject"
    assert content["cost"] == {"total": 0.25}
    assert content["lineage"]["sha256 of model.onnx"] == "1" * 64
    assert content["lineage"]["commit"] == "abc"


def test_same_input_same_bytes(folders: dict[str, Path], tmp_path: Path) -> None:
    pages = [build_report(tmp_path / name, **folders).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


def test_groups_in_two_splits_are_found_without_a_certificate(
    make_dataset: Callable[..., Dataset], says: Callable[..., Classification], scripted: Any, tmp_path: Path
) -> None:
    rows = [{"split": split, "class_ids": [0], "group": "clip"} for split in ("train", "train", "test")]
    dataset = make_dataset("classification", ["a", "b"], rows)
    settings: Any = {"confidence_threshold": 0.25, "iou_threshold": 0.5, "lineage": {}, "curves": []}
    evaluate(scripted(["a", "b"], [says(1, 0)]), dataset, tmp_path / "evaluation", **settings)
    groups = _content(
        build_report(tmp_path / "report.html", evaluation=tmp_path / "evaluation", dataset=dataset.folder)
    )["data"]["groups"]
    assert (groups["straddling"], groups["is_one_an_item"]) == (["clip"], False)
    assert groups["largest"] == {"train": [["clip", 2]], "val": [], "test": [["clip", 1]]}


def test_many_large_images_stay_within_the_size_limit(
    write_dataset: Callable[..., Dataset], says: Callable[..., Classification], scripted: Any, tmp_path: Path
) -> None:
    # Noise is the worst case of a JPEG.
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (480, 480, 3), dtype=np.uint8)).save(buffer, "JPEG")
    row = {"class_ids": [0], "image": buffer.getvalue(), "width": 480, "height": 480}
    rows = [{**row, "split": "test"} for _ in range(50)] + [{**row, "split": "train"}]
    dataset = write_dataset(tmp_path / "dataset", "classification", ["a", "b"], rows)
    settings: Any = {"confidence_threshold": 0.25, "iou_threshold": 0.5, "lineage": {}, "curves": []}
    evaluate(scripted(["a", "b"], [says(0.9, 0.1)] * 50), dataset, tmp_path / "evaluation", **settings)
    page = build_report(tmp_path / "report.html", evaluation=tmp_path / "evaluation", dataset=dataset.folder)
    assert 2_000_000 < page.stat().st_size < 8_000_000


def test_bad_input(folders: dict[str, Path], tmp_path: Path, write_json: WriteJson, bundle_values: Any) -> None:
    page = tmp_path / "report.html"
    bundle = write_json(tmp_path / "bundle" / "model.json", bundle_values)
    with pytest.raises(ArtifactError, match=r"parity\.json: missing; run the stage export again"):
        build_report(page, **folders, bundle=bundle)
    with pytest.raises(ArtifactError, match="schema_version 7 is not known"):
        build_report(page, **folders, benchmark=write_json(tmp_path / "b" / "benchmark.json", {"schema_version": 7}))
    (tmp_path / "b" / "benchmark.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"benchmark\.json: not valid JSON"):
        build_report(page, **folders, benchmark=tmp_path / "b")
    metrics = folders["evaluation"] / "metrics.json"
    metrics.write_text(metrics.read_text().replace("d" * 64, "e" * 64))
    with pytest.raises(ArtifactError, match=r"made on dataset eeeeeeeeeeee, but .* is dddddddddddd"):
        build_report(page, **folders)
    assert not page.exists()
