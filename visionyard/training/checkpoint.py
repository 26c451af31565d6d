"""Checkpoints that survive a kill at any moment, on a local disk or an object store.

A store is a folder or an s3:// prefix that holds `checkpoint-<epoch>-<step>.pt` files and `checkpoints.json`, the
pointer. A checkpoint is written under a temporary name, flushed, hashed and renamed; only then the pointer is swapped,
so that it never names a file that is not whole. Kept are the newest three, the best, and those of the epochs asked for.
"""

import hashlib
import io
import json
import pickle
import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from visionyard import events
from visionyard.digests import sha256_bytes, sha256_file
from visionyard.errors import ArtifactError, StorageError
from visionyard.models import TrainedModel, TrainingPlan, TrainingState, get_plugin
from visionyard.storage import delete, exists, fetch_file, read_bytes, write_bytes, writing

SCHEMA_VERSION = 1
POINTER = "checkpoints.json"
CHECKPOINT = "checkpoint.pt"
KEPT_COUNT = 3


@dataclass(frozen=True)
class CheckpointEntry:
    """One line of the pointer.

    Attributes:
        file: Name in the store.
        sha256: Of the file.
        epoch: Epochs finished.
        step: Optimizer steps done.
        fitness: The larger the better; null for one taken within an epoch.
        metrics: Of the epoch.
    """

    file: str
    sha256: str
    epoch: int
    step: int
    fitness: float | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself beside its weights.

    Attributes:
        plan: The settled values of its training.
        config_digest: Of the plan.
        dataset_digest: Of the dataset version.
        epoch: Epochs finished.
        step: Optimizer steps done.
        metrics: Of that epoch, on the validation split.
        digest: SHA-256 of the file.
    """

    plan: TrainingPlan
    config_digest: str
    dataset_digest: str
    epoch: int
    step: int
    metrics: dict[str, float]
    digest: str


class CheckpointStore:
    """The checkpoints of one training, found by its identity: plan and dataset digest."""

    def __init__(self, uri: str, *, config_digest: str, dataset_digest: str, kept_epochs: Collection[int] = ()) -> None:
        """Open the store; nothing is written yet.

        Args:
            uri: A folder or s3:// prefix; each training has its own place below it.
            config_digest: Of the training plan.
            dataset_digest: Of the dataset version.
            kept_epochs: Checkpoints at the end of these epochs are never removed.
        """
        self.kept_epochs = frozenset(kept_epochs)
        self.uri = f"{uri.rstrip('/')}/{config_digest[:12]}-{dataset_digest[:12]}"
        self.config_digest = config_digest
        self.dataset_digest = dataset_digest
        self.entries: list[CheckpointEntry] = []
        self.history: list[dict[str, Any]] = []
        self.is_finished = False
        self._read_pointer()

    @property
    def best(self) -> CheckpointEntry | None:
        """The entry with the largest fitness; on a tie the later one."""
        rated = [entry for entry in self.entries if entry.fitness is not None]
        return max(rated, key=lambda entry: (entry.fitness, entry.epoch), default=None)

    def snapshot(self, plan: TrainingPlan, state: TrainingState, *, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return the content of a checkpoint as it is now: a copy, which the training does not change any more.

        Args:
            plan: Kept in the checkpoint.
            state: Weights and the trainer's state.
            metrics: Of the epoch.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "plan": plan.to_json(),
            "config_digest": self.config_digest,
            "dataset_digest": self.dataset_digest,
            "epoch": state.epoch,
            "step": state.step,
            "metrics": dict(metrics),
            "weights": _copied(state.weights),
            "training": _copied(state.training),
            "random": random_states(),
        }

    def write(self, snapshot: Mapping[str, Any], *, fitness: float | None) -> None:
        """Write a checkpoint, swap the pointer, and remove what is no longer kept.

        Args:
            snapshot: What `snapshot` returned.
            fitness: The larger the better; None within an epoch.
        """
        import torch

        epoch, step = snapshot["epoch"], snapshot["step"]
        name = f"checkpoint-{epoch:05d}-{step:08d}.pt"
        with writing(f"{self.uri}/{name}") as stream:
            hashing: Any = _HashingStream(stream)  # torch writes to anything with write and flush
            with _without_crc():
                torch.save(dict(snapshot), hashing)
        entry = CheckpointEntry(name, hashing.sha256, epoch, step, fitness, snapshot["metrics"])
        self.entries = [other for other in self.entries if other.file != name] + [entry]
        dropped = self._drop_old()
        self.write_pointer()
        for other in dropped:
            delete(f"{self.uri}/{other.file}")

    def write_pointer(self) -> None:
        """Swap the pointer for one that names the present entries."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "entries": [asdict(entry) for entry in self.entries],
            "history": self.history,
            "is_finished": self.is_finished,
        }
        write_bytes(f"{self.uri}/{POINTER}", json.dumps(content, indent=1).encode())

    def newest(self) -> dict[str, Any] | None:
        """Return the content of the newest checkpoint that loads; a damaged one is skipped with a warning.

        Raises:
            StorageError: The store is away: what it holds is not given up for that.
        """
        for entry in sorted(self.entries, key=lambda entry: (entry.epoch, entry.step), reverse=True):
            try:
                return load_checkpoint(self.read(entry), name=f"{self.uri}/{entry.file}")
            except (ArtifactError, StorageError) as error:
                if isinstance(error, StorageError) and error.is_transient:
                    raise
                events.warn(f"{error}; going on from an older checkpoint")
                self.entries.remove(entry)
        return None

    def read(self, entry: CheckpointEntry) -> bytes:
        """Return a checkpoint's bytes.

        Raises:
            ArtifactError: They are not those that were written.
        """
        data = read_bytes(f"{self.uri}/{entry.file}")
        if sha256_bytes(data) != entry.sha256:
            raise self._altered(entry)
        return data

    def fetch(self, entry: CheckpointEntry, target: Path) -> None:
        """Copy a checkpoint to a local file.

        Raises:
            ArtifactError: It is not the one that was written.
        """
        fetch_file(f"{self.uri}/{entry.file}", target)
        if sha256_file(target) != entry.sha256:
            target.unlink()
            raise self._altered(entry)

    def _altered(self, entry: CheckpointEntry) -> ArtifactError:
        return ArtifactError(f"{self.uri}/{entry.file}: the checkpoint was altered or cut short")

    def _drop_old(self) -> list[CheckpointEntry]:
        newest = sorted(self.entries, key=lambda entry: (entry.epoch, entry.step))[-KEPT_COUNT:]
        asked_for = [entry for entry in self.entries if entry.fitness is not None and entry.epoch in self.kept_epochs]
        kept = [entry for entry in self.entries if entry in newest or entry in asked_for or entry is self.best]
        dropped = [entry for entry in self.entries if entry not in kept]
        self.entries = kept
        return dropped

    def _read_pointer(self) -> None:
        if not exists(f"{self.uri}/{POINTER}"):
            return
        try:
            content = json.loads(read_bytes(f"{self.uri}/{POINTER}"))
        except ValueError:
            events.warn(f"{self.uri}/{POINTER}: not valid JSON; training starts afresh")
            return
        if content.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(
                f"{self.uri}/{POINTER}: schema_version {content.get('schema_version')!r} is not known, expected "
                f"{SCHEMA_VERSION}; use the Visionyard that wrote it, or give the run another name"
            )
        self.entries = [CheckpointEntry(**entry) for entry in content["entries"]]
        self.history = content["history"]
        self.is_finished = content["is_finished"]


def _copied(value: Any) -> Any:
    """Return plain containers with each tensor copied to the CPU."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value


@contextmanager
def _without_crc() -> Iterator[None]:
    """Leave out the check sums that torch adds to each tensor: the file's SHA-256 says more, and they cost as much."""
    from torch.serialization import get_crc32_options, set_crc32_options

    usual = get_crc32_options()
    set_crc32_options(False)
    try:
        yield
    finally:
        set_crc32_options(usual)


class _HashingStream:
    """Passes bytes on and hashes them on the way: a checkpoint is neither held in memory nor read back for that."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()


def load_checkpoint(data: bytes, *, name: str) -> dict[str, Any]:
    """Return the content of a checkpoint; only tensors and plain values are unpickled.

    Args:
        data: The file's bytes.
        name: Names it in messages.

    Raises:
        ArtifactError: It does not load, or its version is unknown.
    """
    import torch

    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise ArtifactError(
            f"{name}: not a loadable checkpoint ({type(error).__name__}); it was cut short or altered"
        ) from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(f"{name}: schema_version {version!r} is not known, expected {SCHEMA_VERSION}")
    return dict(content)


def load_trained_model(folder: Path) -> tuple[TrainedModel, CheckpointInfo]:
    """Return the model of a `train_model` artifact, ready to infer on the CPU, and what is known of it.

    Args:
        folder: Holds `checkpoint.pt`.

    Raises:
        ArtifactError: The checkpoint is missing or does not load.
        ModelError: Its weights do not fit its plan.
    """
    path = folder / CHECKPOINT
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{path}: the checkpoint is missing; run train_model again") from None
    content = load_checkpoint(data, name=str(path))
    plan = TrainingPlan(**content["plan"])
    info = CheckpointInfo(
        plan=plan,
        config_digest=content["config_digest"],
        dataset_digest=content["dataset_digest"],
        epoch=content["epoch"],
        step=content["step"],
        metrics=content["metrics"],
        digest=sha256_bytes(data),
    )
    return get_plugin(plan.model_name).load(plan, content["weights"]), info


def random_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's random generators, as tensors and plain values."""
    import torch

    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set the random generators to what `random_states` returned."""
    import torch

    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
