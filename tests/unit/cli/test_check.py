"""What `visionyard check` tells before anything runs."""

from pathlib import Path

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
