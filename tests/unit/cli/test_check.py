"""What `visionyard check` tells before anything runs."""

from pathlib import Path
from typing import Any

from tests.fixtures.red_detector import write_detector
from visionyard.cli.check import find_problems
from visionyard.config import parse_run_config


def test_masks_of_images_that_no_plugin_learns_are_told_where_the_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    data = {"source": str(tmp_path)}
    problem = (
        "model.name = 'yolo-detection': it learns detection, but the data is labelled for semantic_segmentation; no "
        "plugin learns semantic_segmentation"
    )

    def told(kind: str) -> bool:
        config = parse_run_config({"data": {**data, "kind": kind}, "model": {"name": "yolo-detection"}})
        return any(text.startswith(problem) for text in find_problems(config))

    assert told("images_semantic_masks")
    assert not told("images_instance_masks")
    assert not told("auto")


def test_a_detector_and_a_file_of_splits_that_do_not_fit_are_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "splits.csv").write_text("name,split\na,trian\n")
    detector = write_detector(tmp_path / "detector")

    def told(split_file: str, **anonymize: Any) -> list[str]:
        data = {"source": str(tmp_path / "data"), "split_file": split_file}
        return find_problems(parse_run_config({"data": data, "frames": {"anonymize": anonymize}}))

    problems = told(str(tmp_path / "splits.csv"), model=str(detector), classes=["face"])
    assert "line 2: a: split 'trian'" in problems[0]
    assert "frames.anonymize.classes holds face; the detector knows red" in problems[1]
    assert "no such file or folder" in told("", model=str(tmp_path / "faces"))[0]
    # What lies in a store is looked at by the stage.
    assert not told("s3://yard/splits.csv", model="s3://yard/faces")
    assert not told("", model=str(detector))
