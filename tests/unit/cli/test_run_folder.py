"""Where a run lies, which one goes on, and that its outputs are always found at the same places."""

import os
from pathlib import Path

import pytest

from visionyard.cli.run_folder import RunFolder, config_digest, find_run, newest_run, open_run
from visionyard.config import RunConfig, parse_run_config
from visionyard.errors import ConfigError, VisionyardError


def _config(name: str = "cells", epochs: int = 3) -> RunConfig:
    return parse_run_config({"name": name, "data": {"source": "data"}, "training": {"epochs": epochs}})


def _finish(folder: RunFolder, config: RunConfig, status: str) -> None:
    folder.write_status(status=status, config_digest=config_digest(config))


@pytest.mark.parametrize(
    ("status", "epochs", "is_new", "expected", "is_resumed"),
    [
        ("stopped", 3, False, "cells-1", True),
        ("failed", 3, False, "cells-1", True),
        ("running", 3, False, "cells-1", True),
        ("done", 3, False, "cells-2", False),
        ("failed", 4, False, "cells-2", False),
        ("failed", 3, True, "cells-2", False),
    ],
    ids=["stopped", "failed", "killed", "done before", "other config", "asked for a new one"],
)
def test_which_run_goes_on(status, epochs, is_new, expected, is_resumed, tmp_path: Path):
    first, _ = open_run(tmp_path, _config(), is_new=False)
    _finish(first, _config(), status)
    folder, resumed = open_run(tmp_path, _config(epochs=epochs), is_new=is_new)
    assert (folder.name, resumed) == (expected, is_resumed)


def test_numbers_are_compared_as_numbers(tmp_path: Path):
    for number in (2, 9, 10):
        (tmp_path / f"cells-{number}").mkdir()
    newest = newest_run(tmp_path, "cells")
    assert newest is not None
    assert newest.name == "cells-10"


def test_a_name_that_begins_like_another_is_not_confused(tmp_path: Path):
    (tmp_path / "cells-big-7").mkdir()
    folder, _ = open_run(tmp_path, _config(), is_new=False)
    assert folder.name == "cells-1"


def test_a_run_is_held_by_one_process(tmp_path: Path):
    folder, _ = open_run(tmp_path, _config(), is_new=False)
    with folder.locked(), pytest.raises(VisionyardError, match="cells-1: another process"), folder.locked():
        pass


def test_find_run_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(ConfigError, match="nope: no such run"):
        find_run(tmp_path, "nope")


def test_a_status_of_another_version_is_refused(tmp_path: Path):
    (tmp_path / "run.json").write_text('{"schema_version": 99}')
    with pytest.raises(VisionyardError, match="schema_version 99"):
        RunFolder(tmp_path).status()


def test_the_newest_outputs_are_published_without_being_stored_twice(tmp_path: Path):
    folder = RunFolder(tmp_path)
    for number, text in enumerate(("old", "new")):
        place = folder.pipeline_root / f"train-model-{number}" / "validate-model"
        (place / "evaluation").mkdir(parents=True)
        (place / "evaluation/metrics.json").write_text(text)
        (place / "report").write_text(f"page {text}")
        for path in (place / "evaluation", place / "report"):
            os.utime(path, ns=(number, number))
    for _ in range(2):
        folder.publish_outputs()
    assert (tmp_path / "evaluation/metrics.json").read_text() == "new"
    assert folder.report.read_text() == "page new"
    assert (tmp_path / "evaluation/metrics.json").stat().st_nlink == 2
    assert not (tmp_path / "bundle").exists()


def test_the_last_report_takes_the_place_of_the_earlier_ones(tmp_path: Path):
    folder = RunFolder(tmp_path)
    root = folder.pipeline_root / "train-model-1"
    for task, artifact in (
        ("promote-model", "final_report"),
        ("benchmark-model", "full_report"),
        ("validate-model", "report"),
    ):
        (root / task).mkdir(parents=True)
        (root / task / artifact).write_text(task)
    folder.publish_outputs()
    assert folder.report.read_text() == "promote-model"
