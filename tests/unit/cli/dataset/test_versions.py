"""`visionyard dataset push | pull | list | gc`, as a person or a script uses them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from visionyard.cli.app import app
from visionyard.errors import ConfigError


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["dataset", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json"))


@pytest.fixture
def dataset(shapes_dataset: Callable[..., Path]) -> Path:
    return shapes_dataset("detection")


def test_a_version_goes_there_and_back(dataset: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    said = run("push", dataset, store, "--tag", "shapes:v1")
    assert "40 items, 40 of them new" in said
    assert f"visionyard dataset pull {store}@shapes:v1 FOLDER" in said
    assert "40 items, 40 of them fetched" in run("pull", f"{store}@shapes:v1", tmp_path / "back")
    listed = run("list", store)
    assert "shapes:v1" in listed
    assert "detection" in listed


def test_scripts_read_json(dataset: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    pushed = run_json("push", dataset, store, "--tag", "shapes:v1")
    assert (pushed["item_count"], pushed["new_item_count"], pushed["tag"]) == (40, 40, "shapes:v1")
    (listed,) = run_json("list", store)
    assert (listed["version"], listed["tags"]) == (pushed["version"], ["shapes:v1"])
    pulled = run_json("pull", f"{store}@{pushed['version'][:8]}", tmp_path / "back")
    assert (pulled["version"], pulled["fetched_item_count"]) == (pushed["version"], 40)
    planned = run_json("gc", store, "--remove", "shapes:v1", "--grace-hours", 0)
    assert (planned["is_dry"], len(planned["deleted"]), planned["removed_tags"]) == (True, 2, ["shapes:v1"])
    assert len(run_json("list", store)) == 1
    done = run_json("gc", store, "--remove", "shapes:v1", "--grace-hours", 0, "--delete")
    assert (done["is_dry"], done["deleted"]) == (False, planned["deleted"])
    assert run_json("list", store) == []


def test_gc_says_what_it_would_do_and_what_it_did(dataset: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run("push", dataset, store, "--tag", "shapes:v1")
    said = run("gc", store, "--remove", "shapes:v1", "--grace-hours", 0)
    assert "tag shapes:v1 would be removed" in said
    assert "2 packs would be deleted" in said
    assert "nothing was changed; add --delete to do it" in said
    assert "2 packs deleted" in run("gc", store, "--remove", "shapes:v1", "--grace-hours", 0, "--delete")
    assert f"no versions; `visionyard dataset push FOLDER {store}` makes one" in run("list", store)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        pytest.param(["push", "{data}", "{store}", "--tag", "v1"], "'v1' is no name of a version", id="tag"),
        pytest.param(["pull", "{store}", "{data}"], "store: names no version; expected <store>@", id="no reference"),
        pytest.param(["pull", "{store}@a:b", "{data}"], "store has no version a:b", id="no such version"),
        pytest.param(["gc", "{store}", "--remove", "a:b"], "store has no version a:b", id="nothing to remove"),
    ],
)
def test_wrong_use_is_told(dataset: Path, tmp_path: Path, arguments: list[str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        run(*(argument.format(data=dataset, store=tmp_path / "store") for argument in arguments))
