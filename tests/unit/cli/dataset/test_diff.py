import json
from pathlib import Path
from typing import Any

import pytest

from visionyard.errors import DataError


def test_a_changed_copy_is_told_by_class(dataset_command: Any, voc_folder: Path, tmp_path: Path):
    dataset_command("convert", voc_folder, "--to", "voc", "--out", tmp_path / "copy")
    annotation = tmp_path / "copy/Annotations/a.xml"
    annotation.write_text(annotation.read_text().replace("cat", "cow"))
    done = dataset_command("diff", tmp_path / "copy", voc_folder, "--exit-code")
    assert done.exit_code == 1
    assert "cow to cat" in done.stdout
    assert "Added: c.png" in done.stdout
    assert "classes removed: cow" in done.stdout
    values = json.loads(dataset_command("diff", tmp_path / "copy", voc_folder, "--json").stdout)
    assert values["class_changes"] == [{"before": "cow", "after": "cat", "count": 1}]
    assert (values["added"], values["relabelled_count"], values["same_count"]) == ({"none": 1}, 1, 1)


def test_two_tasks_are_refused(dataset_command: Any, tiny_dataset: Any):
    with pytest.raises(DataError, match="labels of two tasks cannot be compared"):
        dataset_command("diff", tiny_dataset("detection"), tiny_dataset("classification"))
