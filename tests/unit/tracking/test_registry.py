"""The registry in a real MLflow store: promotions by compare-and-swap, raced by several processes."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from visionyard.errors import ConfigError, StorageError
from visionyard.events import RUN_VARIABLE
from visionyard.tracking.registry import CHALLENGER, CHAMPION, Registry

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow and Alembic warn of their own dependencies


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return one MLflow store for all tests, each with a model of its own: opening another takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def registry(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv(RUN_VARIABLE, "cells-1")
    return Registry(tmp_path.name)


@pytest.fixture
def files(tmp_path: Path) -> Any:
    def make(text: str) -> dict[str, Path]:
        folder = tmp_path / f"bundle-{text}"
        folder.mkdir(exist_ok=True)
        (folder / "model.json").write_text(text)
        return {"bundle": folder}

    return make


def _promote(registry: Registry, files: Any, letter: str) -> bool:
    return registry.promote(letter * 64, files(letter), after=registry.state().head, tags={"verdict": "promote"})


def _aliases(registry: Registry) -> dict[str, int]:
    return {name: registry._alias(name) for name in (CHAMPION, CHALLENGER)}


def test_an_unknown_model_has_no_champion(registry: Registry):
    state = registry.state()
    assert (state.champion, state.head) == (None, 0)
    assert registry.history() == []


def test_the_first_promotion_makes_the_champion_and_keeps_its_files(registry: Registry, files: Any, tmp_path: Path):
    assert _promote(registry, files, "a")
    champion = registry.state().champion
    assert champion is not None
    assert (champion.number, champion.bundle_digest, champion.tags["verdict"]) == (1, "a" * 64, "promote")
    (tmp_path / "copy").mkdir()
    assert (registry.fetch(champion, "bundle", tmp_path / "copy") / "model.json").read_text() == "a"
    assert _aliases(registry) == {CHAMPION: 1, CHALLENGER: 0}


def test_a_promotion_after_an_old_champion_is_refused(registry: Registry, files: Any):
    assert _promote(registry, files, "a")
    assert not registry.promote("b" * 64, files("b"), after=0, tags={})
    assert registry.state().champion.bundle_digest == "a" * 64
    assert registry.promote("b" * 64, files("b"), after=1, tags={})
    assert [one.bundle_digest[0] for one in registry.history()] == ["a", "b"]


def test_of_two_promotions_that_saw_the_same_champion_the_first_counts(
    registry: Registry, files: Any, monkeypatch: pytest.MonkeyPatch
):
    assert _promote(registry, files, "a")
    # Both have looked before either has written.
    monkeypatch.setattr(Registry, "_head_number", lambda self: 1)
    assert registry.promote("b" * 64, files("b"), after=1, tags={})
    assert not registry.promote("c" * 64, files("c"), after=1, tags={})
    assert registry.state().champion.bundle_digest == "b" * 64


def test_a_promotion_whose_process_died_before_the_alias_is_completed(
    registry: Registry, files: Any, monkeypatch: pytest.MonkeyPatch
):
    assert _promote(registry, files, "a")
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "_settle", lambda self, version: version)
        assert _promote(registry, files, "b")
    assert _aliases(registry)[CHAMPION] == 1
    state = registry.state()
    assert (state.champion.bundle_digest, state.head) == ("b" * 64, 2)
    assert _aliases(registry)[CHAMPION] == 2


def test_an_alias_that_was_set_late_is_set_right(registry: Registry, files: Any, monkeypatch: pytest.MonkeyPatch):
    """The first winner sets the alias after the second has: it looks again and sets the second's."""
    assert _promote(registry, files, "a")
    first = registry.history()[0]
    assert _promote(registry, files, "b")
    assert registry._settle(first).bundle_digest == "b" * 64
    assert _aliases(registry)[CHAMPION] == 2


def test_an_answer_that_was_lost_is_not_written_twice(registry: Registry, files: Any, monkeypatch: pytest.MonkeyPatch):
    from mlflow.exceptions import MlflowException

    create = registry._client.create_model_version

    def lose(*args: Any, **options: Any) -> None:
        create(*args, **options)
        raise MlflowException("the connection broke off")

    monkeypatch.setattr(registry._client, "create_model_version", lose)
    assert _promote(registry, files, "a")
    assert len(registry.versions()) == 1


def test_a_person_who_moves_the_alias_is_heard(registry: Registry, files: Any):
    assert _promote(registry, files, "a")
    assert _promote(registry, files, "b")
    registry._client.set_registered_model_alias(registry.name, CHAMPION, "1")
    state = registry.state()
    assert (state.champion.bundle_digest, state.head) == ("a" * 64, 2)
    assert _promote(registry, files, "c")
    assert registry.state().champion.bundle_digest == "c" * 64


def test_an_earlier_champion_is_restored_through_the_log(registry: Registry, files: Any, tmp_path: Path):
    assert _promote(registry, files, "a")
    assert _promote(registry, files, "b")
    assert registry.restore(1, after=2, tags={"visionyard.by": "Ada"})
    champion = registry.state().champion
    assert (champion.number, champion.bundle_digest) == (3, "a" * 64)
    assert (champion.tags["visionyard.restores"], champion.tags["visionyard.by"]) == ("1", "Ada")
    (tmp_path / "copy").mkdir()
    assert (registry.fetch(champion, "bundle", tmp_path / "copy") / "model.json").read_text() == "a"
    with pytest.raises(ConfigError, match="no version 9"):
        registry.restore(9, after=3, tags={})


def test_a_challenger_is_registered_once_and_gives_way_when_promoted(registry: Registry, files: Any):
    assert _promote(registry, files, "a")
    registry.challenge("b" * 64, files("b"), tags={"verdict": "reject", "reasons": "x" * 9000})
    registry.challenge("b" * 64, files("b"), tags={"verdict": "reject"})
    assert _aliases(registry) == {CHAMPION: 1, CHALLENGER: 2}
    assert registry.state().champion.number == 1
    assert _promote(registry, files, "b")
    assert _aliases(registry) == {CHAMPION: 3, CHALLENGER: 0}


def test_versions_of_others_are_no_promotions(registry: Registry, files: Any, tmp_path: Path):
    assert _promote(registry, files, "a")
    registry._client.create_model_version(registry.name, "file:///elsewhere", tags={"visionyard.after": "nonsense"})
    assert registry.state().head == 1
    registry._client.set_registered_model_alias(registry.name, CHAMPION, "2")
    foreign = registry.state().champion
    assert foreign.number == 2
    with pytest.raises(StorageError, match="version 2: not registered by Visionyard"):
        registry.fetch(foreign, "bundle", tmp_path)


_RACER = """
import sys
from pathlib import Path
from visionyard.errors import StorageError
from visionyard.tracking.registry import Registry
name, letter, folder = sys.argv[1:]
registry, rejudged = Registry(name), 0
registry.state()
print("ready", flush=True)
sys.stdin.readline()
while True:
    try:
        head = registry.state().head
        if any(one.bundle_digest == letter * 64 for one in registry.history()):
            break
        rejudged += not registry.promote(letter * 64, {"bundle": Path(folder)}, after=head, tags={})
    except StorageError:  # SQLite is locked by the others for too long: the stage would be run again, as here
        continue
print(rejudged)
"""


@pytest.mark.timeout(600)  # four more imports of MLflow
def test_processes_that_race_lose_no_promotion(registry: Registry, files: Any):
    """Four promote at once; each is judged again until it counts: four champions in a row, the alias on the last."""
    assert _promote(registry, files, "0")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, registry.name, letter, str(files(letter)["bundle"])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for letter in "abcd"
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    rejudged = [int(racer.communicate()[0]) for racer in racers]
    history = registry.history()
    assert history[0].bundle_digest[0] == "0"
    assert Counter(one.bundle_digest[0] for one in history) == Counter("0abcd")
    assert [one.after for one in history] == [0, *(one.number for one in history[:-1])]
    # Every claim that lost is there as a version that no reader counts.
    lost = len(registry.versions()) - len(history)
    assert lost <= sum(rejudged)
    assert registry.state().champion.number == history[-1].number == _aliases(registry)[CHAMPION]


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StorageError, match=r"cells at MLflow http://127\.0\.0\.1:9 failed"):
        Registry("cells", "http://127.0.0.1:9").state()


def test_without_an_address_there_is_no_registry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is not set"):
        Registry("cells")
