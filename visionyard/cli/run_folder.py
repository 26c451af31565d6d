"""The folder of a run: `runs/<name>-<n>/`, what lies in it, and which one a command goes on with."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionyard.atomic import write_atomic
from visionyard.cli.stages import TRAIN_MODEL_STAGES
from visionyard.config import RunConfig
from visionyard.digests import digest_of
from visionyard.errors import ConfigError, VisionyardError

STATUS = "run.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RunFolder:
    """One run on disk.

    Attributes:
        path: Its folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, `<name>-<n>`, which is also the run's identity in events and tracking."""
        return self.path.name

    @property
    def events(self) -> Path:
        """Run events, one JSON line each."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """Everything the pipeline and its stages printed."""
        return self.path / "pipeline.log"

    @property
    def pipeline_root(self) -> Path:
        """Where KFP keeps artifacts and its cache."""
        return self.path / ".kfp"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints while training."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.path / "report.html"

    def status(self) -> dict[str, Any]:
        """Return what is known of the run; empty when it never started.

        Raises:
            VisionyardError: The file was written by another version.
        """
        path = self.path / STATUS
        if not path.exists():
            return {}
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values.get("schema_version") != SCHEMA_VERSION:
            raise VisionyardError(
                f"{path}: schema_version {values.get('schema_version')!r} is not known, expected {SCHEMA_VERSION}"
            )
        return values

    def write_status(self, **values: Any) -> None:
        """Change some of what is known of the run."""
        content = {**self.status(), "schema_version": SCHEMA_VERSION, **values}
        write_atomic(self.path / STATUS, json.dumps(content, indent=1, sort_keys=True) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            VisionyardError: Another process holds it.
        """
        with (self.path / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise VisionyardError(
                    f"{self.path}: another process is working on this run; wait for it, or start a new one with --new"
                ) from None
            yield

    def publish_outputs(self) -> None:
        """Put the newest output of every finished stage where it can always be found.

        Files are hard links to KFP's own, so that nothing is stored twice; where links cannot be made they are copies.
        """
        for stage in TRAIN_MODEL_STAGES:
            for artifact, place in stage.places.items():
                found = [path for path in self.pipeline_root.glob(f"*/{stage.task_name}/{artifact}") if path.exists()]
                if found:
                    _replace(max(found, key=lambda path: path.stat().st_mtime_ns), self.path / place)


def _replace(source: Path, target: Path) -> None:
    work = target.with_name(f".{target.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.unlink(missing_ok=True)
    if source.is_dir():
        shutil.copytree(source, work, copy_function=_link)
    else:
        _link(str(source), str(work))
    if target.is_dir():
        shutil.rmtree(target)
    work.replace(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def config_digest(config: RunConfig) -> str:
    """Return the digest that tells whether two runs are the same."""
    return digest_of(config.model_dump(mode="json"))


def open_run(runs: Path, config: RunConfig, *, is_new: bool) -> tuple[RunFolder, bool]:
    """Return the folder to run in, and whether it goes on with an unfinished run.

    The newest run of that name goes on when it did not finish and its config is the same; otherwise a new one is made.

    Args:
        runs: Holds all runs.
        config: What is run.
        is_new: Make a new one in any case.
    """
    newest = newest_run(runs, config.name)
    if newest is not None and not is_new:
        status = newest.status()
        if status.get("status") != "done" and status.get("config_digest") == config_digest(config):
            return newest, True
    number = _number(newest.path) + 1 if newest is not None else 1
    folder = RunFolder(runs / f"{config.name}-{number}")
    folder.path.mkdir(parents=True)
    return folder, False


def newest_run(runs: Path, name: str = "") -> RunFolder | None:
    """Return the run with the highest number of a name, or the one last started of all names."""
    found = [path for path in runs.glob("*-*") if path.is_dir() and re.search(r"-\d+$", path.name)]
    if name:
        found = [path for path in found if path.name.rpartition("-")[0] == name]
        return RunFolder(max(found, key=_number)) if found else None
    return RunFolder(max(found, key=lambda path: path.stat().st_mtime_ns)) if found else None


def promotion_store(runs: Path) -> Path:
    """Return where approvals of local runs lie, unless promotion.store says otherwise."""
    return runs.absolute() / "promotion"


def find_run(runs: Path, name: str) -> RunFolder:
    """Return a run by its folder, by `<name>-<n>`, by `<name>` (its newest), or the newest of all for an empty name.

    Raises:
        ConfigError: There is none.
    """
    for path in (Path(name), runs / name):
        if name and (path / STATUS).exists():
            return RunFolder(path)
    found = newest_run(runs, name)
    if found is None:
        raise ConfigError(f"{name or runs}: no such run; `visionyard run run.yaml` makes one below {runs}/")
    return found


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
