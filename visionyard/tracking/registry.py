"""Registered models in MLflow, with the aliases `champion` and `challenger`; the champion moves by compare-and-swap.

MLflow moves an alias unconditionally, so two runs that judged against the same champion could both promote and one
would be lost. What MLflow does give out once only is the next version number of a model. So the versions themselves are
the log by which the champion changes: a promotion is a new version with the tag `visionyard.after`, the version that
was the last valid promotion when it was decided. Read in order, a promotion is valid when its `after` is the last valid
one before it; every reader comes to the same answer, of two promotions after the same version exactly the first counts,
and no lock can be left behind by a process that dies. The alias follows the log: whoever promotes sets it, looks again,
and sets it once more where the log has gone on meanwhile; a promotion whose process died before that is completed by
the next reader that writes.

A person may move the alias in MLflow's own page; it then counts as their decision and is what new models are judged
against. That move is no part of the log: one made in the very milliseconds of a promotion can be overwritten.
`visionyard champion set` goes by the log and cannot.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionyard.errors import ConfigError, StorageError
from visionyard.tracking import runs

CHAMPION, CHALLENGER = "champion", "challenger"
_PREFIX = "visionyard."
AFTER, CLAIM, SETTLED, PLACE, DIGEST = (
    f"{_PREFIX}{name}" for name in ("after", "claim", "settled", "place", "bundle_digest")
)
# Tags that belong to one promotion, not to the model.
_OF_THE_LOG = (AFTER, CLAIM, SETTLED)
_TRY_COUNT = 8
_TAG_LENGTH = 5000


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model.

    Attributes:
        number: From 1.
        run_id: The run that holds its files.
        tags: What is known of it.
        created_ms: Since 1970.
    """

    number: int
    run_id: str
    tags: Mapping[str, str]
    created_ms: int

    @property
    def bundle_digest(self) -> str:
        """Of its bundle; empty for a version that something else registered."""
        return self.tags.get(DIGEST, "")

    @property
    def after(self) -> int | None:
        """The promotion it claims to follow, 0 for the first; None when it is no promotion."""
        text = self.tags.get(AFTER, "")
        return int(text) if text.isdecimal() else None


@dataclass(frozen=True)
class State:
    """The registered model at one moment.

    Attributes:
        champion: The model in use; None before the first.
        head: Number of the last valid promotion, 0 before the first: what a promotion names in `after`.
    """

    champion: ModelVersion | None
    head: int


class Registry:
    """One registered model."""

    def __init__(self, name: str, uri: str = "") -> None:
        """Open a registered model, which need not be there yet.

        Args:
            name: Of the model.
            uri: MLflow's; empty takes MLFLOW_TRACKING_URI.

        Raises:
            ConfigError: There is no address of MLflow.
            StorageError: MLflow cannot be reached.
        """
        self.name = name
        self._uri = uri or os.environ.get(runs.URI_VARIABLE, "")
        if not self._uri:
            raise ConfigError(f"{runs.URI_VARIABLE} is not set: the model registry is MLflow's; give its address")
        for variable, value in runs.MLFLOW_SETTINGS.items():
            os.environ.setdefault(variable, value)
        with self._explained():
            from mlflow import MlflowClient

            self._client: Any = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def versions(self) -> list[ModelVersion]:
        """Return all versions, oldest first."""
        with self._explained():
            found: list[Any] = []
            token = None
            while True:
                # A quote cannot stand in a filter; no name with one gets past the run config.
                page = self._client.search_model_versions(f"name = '{self.name}'", page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        made = [
            ModelVersion(int(one.version), one.run_id or "", dict(one.tags), int(one.creation_timestamp))
            for one in found
        ]
        return sorted(made, key=lambda version: version.number)

    def state(self) -> State:
        """Return the champion and the head of the log, and complete a promotion that was cut short."""
        head = _head(self.versions())
        if head is None:
            alias = self._alias(CHAMPION)
            return State(self._version(alias) if alias else None, 0)
        if SETTLED not in head.tags:
            # Both of one look: a champion and a later head would let a promotion pass that was judged by neither.
            settled = self._settle(head)
            return State(settled, settled.number)
        alias = self._alias(CHAMPION)
        return State(self._version(alias) if alias and alias != head.number else head, head.number)

    def history(self) -> list[ModelVersion]:
        """Return the valid promotions, oldest first."""
        return list(_promotions(self.versions()))

    def promote(self, bundle_digest: str, files: Mapping[str, Path], *, after: int, tags: Mapping[str, str]) -> bool:
        """Make a model the champion, unless the champion has changed since `after`.

        Args:
            bundle_digest: Of its bundle.
            files: Its files, folder name to folder.
            after: `State.head` at the time the model was judged.
            tags: What is known of it.

        Returns:
            Whether it became the champion; False: judge it again against the new one.

        Raises:
            StorageError: MLflow failed; calling it again is safe.
        """
        if self._head_number() != after:
            return False
        run_id, place = self._keep(bundle_digest, files)
        return self._claim({**tags, DIGEST: bundle_digest, PLACE: place}, run_id, place, after)

    def restore(self, number: int, *, after: int, tags: Mapping[str, str]) -> bool:
        """Make an earlier version the champion again, as a new version with the same files; otherwise as `promote`.

        Raises:
            ConfigError: There is no such version.
            StorageError: MLflow failed.
        """
        version = self._version(number)
        if version is None:
            raise ConfigError(f"{self.name}: no version {number}; `visionyard champion history {self.name}` lists them")
        kept = {name: value for name, value in version.tags.items() if name not in _OF_THE_LOG}
        marks = {**kept, **tags, f"{_PREFIX}restores": str(number)}
        return self._claim(marks, version.run_id, version.tags.get(PLACE, ""), after)

    def challenge(self, bundle_digest: str, files: Mapping[str, Path], *, tags: Mapping[str, str]) -> ModelVersion:
        """Register a model that did not become champion, once, and let the alias `challenger` name it.

        Args:
            bundle_digest: Of its bundle.
            files: Its files, folder name to folder.
            tags: What is known of it; those of a version that is there already are replaced.

        Raises:
            StorageError: MLflow failed.
        """

        def find() -> list[ModelVersion]:
            return [one for one in self.versions() if one.after is None and one.bundle_digest == bundle_digest]

        if not find():
            run_id, place = self._keep(bundle_digest, files)
            marks = {DIGEST: bundle_digest, PLACE: place}
            self._create({**tags, **marks}, run_id, place, is_done=lambda: bool(find()))
        version = find()[0]
        with self._explained():
            for name, value in sorted(tags.items()):
                self._client.set_model_version_tag(self.name, str(version.number), name, value[:_TAG_LENGTH])
            self._client.set_registered_model_alias(self.name, CHALLENGER, str(version.number))
        return version

    def fetch(self, version: ModelVersion, what: str, target: Path) -> Path:
        """Copy one of a version's folders to below `target` and return its path.

        Args:
            version: Which.
            what: The folder's name, as it was given to `promote`.
            target: An existing folder.

        Raises:
            StorageError: MLflow failed, or the version holds no such folder.
        """
        place = version.tags.get(PLACE, "")
        if not place:
            raise StorageError(
                f"{self.name} version {version.number}: not registered by Visionyard, so where its files lie "
                "is unknown; move the alias champion to a version that was"
            )
        with self._explained():
            return Path(self._client.download_artifacts(version.run_id, f"{place}/{what}", str(target)))

    def _claim(self, tags: Mapping[str, str], run_id: str, place: str, after: int) -> bool:
        claim = uuid.uuid4().hex
        marks = {**tags, AFTER: str(after), CLAIM: claim}
        self._create(marks, run_id, place, is_done=lambda: any(one.tags.get(CLAIM) == claim for one in self.versions()))
        mine = [one for one in self.history() if one.tags.get(CLAIM) == claim]
        if mine:
            self._settle(mine[0])
        return bool(mine)

    def _settle(self, version: ModelVersion) -> ModelVersion:
        """Let the alias follow the log, until neither has moved on, and return the champion."""
        while True:
            with self._explained():
                self._client.set_registered_model_alias(self.name, CHAMPION, str(version.number))
                self._client.set_model_version_tag(self.name, str(version.number), SETTLED, "true")
                if self._alias(CHALLENGER) and self._is_challenger(version):
                    self._client.delete_registered_model_alias(self.name, CHALLENGER)
            head = _head(self.versions())
            if head is None or head.number == version.number:
                return version
            version = head

    def _is_challenger(self, version: ModelVersion) -> bool:
        alias = self._alias(CHALLENGER)
        found = self._version(alias) if alias else None
        return found is not None and found.bundle_digest == version.bundle_digest

    def _keep(self, bundle_digest: str, files: Mapping[str, Path]) -> tuple[str, str]:
        """Copy a model's files to where its versions find them: below its digest, so that no other model's change."""
        place = f"models/{bundle_digest[:16]}"
        with self._explained():
            return runs.keep_files(files, place), place

    def _create(self, tags: Mapping[str, str], run_id: str, place: str, *, is_done: Callable[[], bool]) -> None:
        from mlflow.exceptions import MlflowException

        with self._explained():
            try:
                self._client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = f"runs:/{run_id}/{place}"
            short = {name: value[:_TAG_LENGTH] for name, value in tags.items()}
            for attempt in range(1, _TRY_COUNT + 1):
                try:
                    self._client.create_model_version(self.name, source, run_id=run_id, tags=short)
                    return
                except MlflowException:
                    # Many at once run MLflow out of its own tries; and an answer that was lost may have been a yes.
                    if is_done():
                        return
                    if attempt == _TRY_COUNT:
                        raise

    def _head_number(self) -> int:
        head = _head(self.versions())
        return head.number if head else 0

    def _version(self, number: int) -> ModelVersion | None:
        return next((one for one in self.versions() if one.number == number), None)

    def _alias(self, alias: str) -> int:
        """Return the number that an alias names; 0 when there is none."""
        from mlflow.exceptions import MlflowException

        with self._explained():
            try:
                return int(self._client.get_model_version_by_alias(self.name, alias).version)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return 0
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StorageError(f"the registry of {self.name} at MLflow {self._uri} failed: {words}") from None


def _promotions(versions: list[ModelVersion]) -> Iterator[ModelVersion]:
    head = 0
    for version in versions:
        if version.after == head:
            head = version.number
            yield version


def _head(versions: list[ModelVersion]) -> ModelVersion | None:
    head = None
    for head in _promotions(versions):  # noqa: B007
        pass
    return head
