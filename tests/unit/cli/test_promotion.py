"""`visionyard approve` and `visionyard champion`, against a real MLflow store."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from visionyard.cli.app import app
from visionyard.cli.promotion import is_waiting
from visionyard.cli.run_folder import RunFolder
from visionyard.errors import ConfigError
from visionyard.promotion import find_approval
from visionyard.tracking.registry import Registry

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow and Alembic warn of their own dependencies


def _visionyard(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_a_digest_is_approved_in_the_store_of_local_runs(tmp_path: Path):
    done = _visionyard("approve", "a" * 64, "--by", "Ada", "--comment", "fine", "--runs", str(tmp_path))
    assert done.exit_code == 0, done.output
    approval = find_approval(str(tmp_path / "promotion"), "a" * 64)
    assert approval is not None
    assert (approval.by, approval.comment) == ("Ada", "fine")
    assert approval.when.endswith("+00:00")


def test_the_bundle_of_a_run_is_approved_in_the_store_that_its_config_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "digits-3"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "run.yaml").write_text(f"promotion:\n  store: {tmp_path / 'store'}\n")
    from visionyard.inference import Bundle

    opened = []
    monkeypatch.setattr(Bundle, "open", lambda folder: opened.append(folder) or type("B", (), {"digest": "b" * 64}))
    assert _visionyard("approve", "digits-3", "--by", "Ada", "--runs", str(tmp_path)).exit_code == 0
    assert opened == [run / "bundle"]
    assert find_approval(str(tmp_path / "store"), "b" * 64) is not None


def test_a_run_that_is_not_there_cannot_be_approved(tmp_path: Path):
    done = _visionyard("approve", "digits", "--by", "Ada", "--runs", str(tmp_path))
    assert isinstance(done.exception, ConfigError)
    assert "digits: no such run" in str(done.exception)


@pytest.mark.parametrize(("content", "expected"), [(None, False), (False, False), (True, True)], ids=str)
def test_a_run_waits_when_only_the_approval_is_missing(content: bool | None, expected: bool, tmp_path: Path):
    if content is not None:
        (tmp_path / "verdict").mkdir()
        (tmp_path / "verdict/verdict.json").write_text(json.dumps({"is_pending": content}))
    assert is_waiting(RunFolder(tmp_path)) is expected


def test_the_champion_is_shown_listed_and_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    registry = Registry("digits", uri)
    runs = ("--runs", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert "there is no champion yet" in str(_visionyard("champion", "show", "digits", *runs).exception)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/model.json").write_text("{}")
    for letter in "ab":
        tags = {
            "visionyard.reasons": '["it is better"]',
            "visionyard.metric": "top_1 0.9",
            "visionyard.verdict": "promote",
        }
        files = {"bundle": tmp_path / "files"}
        assert registry.promote(letter * 64, files, after=registry.state().head, tags=tags)
    shown = _visionyard("champion", "show", "digits", *runs).output
    assert "digits version 2" in shown
    assert "it is better" in shown
    done = _visionyard("champion", "set", "digits", "1", "--by", "Ada", *runs)
    assert "version 1 of digits is the champion again, as version 3" in " ".join(done.output.split())
    listed = [line.split() for line in _visionyard("champion", "history", "digits", *runs).output.splitlines()]
    assert [line[0] for line in listed] == ["Version", "3", "2", "1"]
    assert listed[1][-1] == "Ada"
