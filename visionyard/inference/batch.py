"""A bundle over many images and videos: from folders, stores and dataset versions to parts of results, resumable.

results/
  batch.json       what was asked: bundle, listing, settings; a run that goes on must ask the same
  part-NNNNN.jsonl or .parquet   a record for each image or frame, or an error, in the order of the listing
  summary.json     counts and failures; written last, so its presence says that all parts are there

A part is written whole or not at all, and does not depend on which run wrote it: a killed run that goes on ends with
the same bytes as one that was never interrupted. Images are decoded in threads beside the inference, videos in
processes; a few decoded images are held, whatever the number of items.
"""

import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from visionyard import events, storage
from visionyard.digests import canonical_json, digest_of_lines
from visionyard.errors import ConfigError, MediaError
from visionyard.inference.batch_items import BatchItem, list_items, load_item, pictures_of, place_of
from visionyard.inference.batch_parts import FileFormat, Tally, read_part, writing_part
from visionyard.inference.bundle import Bundle
from visionyard.inference.paths import Picture, prediction_to_json
from visionyard.inference.predictor import Predictor
from visionyard.stage_resources import core_count
from visionyard.transforms.specs import require_images

SCHEMA_VERSION = 1
PLAN, SUMMARY = "batch.json", "summary.json"
# A killed run repeats at most one part: a minute at 5 images a second.
PART_ITEM_COUNT = 256
_BATCH_SIZE = 8


@dataclass(frozen=True)
class BatchSettings:
    """How a batch is done.

    Attributes:
        confidence_threshold: For detections, in place of the bundle's own.
        model_format: Of the bundle; empty: its usual one.
        rate_hz: Frames looked at per second of video, above 0.
        file_format: Of the parts.
        part_item_count: Items of a part, at least 1.
        worker_count: Threads that load images; 0: as many as there are cores. Changes no result.

    Raises:
        ConfigError: A value is out of its range.
    """

    confidence_threshold: float | None = None
    model_format: str = ""
    rate_hz: float = 1.0
    file_format: FileFormat = "jsonl"
    part_item_count: int = PART_ITEM_COUNT
    worker_count: int = 0

    def __post_init__(self) -> None:
        if self.part_item_count < 1:
            raise ConfigError(f"part_item_count = {self.part_item_count}: expected at least 1")
        if self.worker_count < 0:
            raise ConfigError(f"worker_count = {self.worker_count}: expected 0 or more")


@dataclass(frozen=True)
class BatchSummary:
    """What came of a batch, over all its runs.

    Attributes:
        item_count: Images and videos.
        picture_count: Images and frames that were looked at.
        failed_count: Items that could not be read, in whole or from some frame on.
        part_count: Result files.
        resumed_part_count: Those that were there before.
        class_counts: Boxes of each class, or pictures of it.
        failures: Path and error of the first 1000 that failed.
    """

    item_count: int
    picture_count: int
    failed_count: int
    part_count: int
    resumed_part_count: int
    class_counts: dict[str, int]
    failures: list[dict[str, str]]


def predict_batch(
    bundle: Path,
    sources: Sequence[str],
    target: str,
    settings: BatchSettings,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> BatchSummary:
    """Look at everything below some addresses and write the results; goes on where an earlier run stopped.

    Args:
        bundle: The model bundle's folder.
        sources: Files, folders, `s3://` prefixes, dataset versions.
        target: Folder or `s3://` prefix of the results.
        settings: How it is done.
        on_progress: Called with the items done and all of them.

    Raises:
        ArtifactError: The bundle is incomplete or altered.
        ConfigError: There is nothing to look at, the target holds results of something else, or the model is of
            a table.
        StorageError: A store refused or timed out; running it again goes on.
    """
    model = Bundle.open(bundle)
    require_images(model.manifest.preprocessing)
    items = list_items(sources)
    count = settings.part_item_count
    parts = [items[start : start + count] for start in range(0, len(items), count)]
    addresses = [storage.join(target, f"part-{number:05d}.{settings.file_format}") for number in range(len(parts))]
    done = _go_on(target, _plan(model, sources, items, len(parts), settings))
    tally = Tally()
    done_items = resumed = 0
    with ExitStack() as resources:
        worker: _Worker | None = None
        for address, part in zip(addresses, parts, strict=True):
            if address.rpartition("/")[2] in done:
                resumed += 1
                for record in read_part(address, settings.file_format):
                    tally.add(record)
            else:
                # Not before it is needed: a run that finds all parts there loads no model.
                worker = worker or resources.enter_context(_Worker(model, settings))
                _write_part(worker, part, address, settings, tally)
            done_items += len(part)
            on_progress(done_items, len(items))
            events.progress(done_items, len(items), unit="item", label=address.rpartition("/")[2])
    summary = BatchSummary(
        item_count=len(items),
        picture_count=tally.picture_count,
        failed_count=tally.failed_count,
        part_count=len(parts),
        resumed_part_count=resumed,
        class_counts=dict(sorted(tally.class_counts.items())),
        failures=tally.failures,
    )
    _write_summary(target, summary)
    return summary


def _plan(
    model: Bundle, sources: Sequence[str], items: Sequence[BatchItem], part_count: int, settings: BatchSettings
) -> dict[str, Any]:
    asked = {name: value for name, value in asdict(settings).items() if name != "worker_count"}
    asked["model_format"] = model.format_name(settings.model_format or None)
    return {
        "schema_version": SCHEMA_VERSION,
        "artifact": "predictions",
        "bundle_digest": model.digest,
        "sources": [storage.shown(source) for source in sources],
        "listing_digest": digest_of_lines(
            canonical_json([item.path, item.version, item.size, item.offset]) for item in items
        ),
        "item_count": len(items),
        "part_count": part_count,
        **asked,
    }


def _go_on(target: str, plan: dict[str, Any]) -> set[str]:
    """Return the names of the parts that are there, after making sure that they answer the same question.

    Raises:
        ConfigError: They answer another; says which value differs.
    """
    address = storage.join(target, PLAN)
    names = {info.key for info in storage.list_objects(target)}
    if PLAN not in names:
        if any(name.startswith("part-") for name in names):
            raise ConfigError(
                f"{storage.shown(target)}: holds parts without {PLAN}; name another place for the results"
            )
        storage.write_bytes(address, (json.dumps(plan, indent=1, ensure_ascii=False) + "\n").encode())
        return set()
    earlier = json.loads(storage.read_bytes(address))
    differing = sorted(key for key in plan.keys() | earlier.keys() if plan.get(key) != earlier.get(key))
    if differing:
        told = "; ".join(f"{key} was {earlier.get(key)!r}, is {plan.get(key)!r}" for key in differing)
        raise ConfigError(
            f"{storage.shown(target)}: holds the results of something else ({told}); name another place, or delete them"
        )
    return names


def _write_summary(target: str, summary: BatchSummary) -> None:
    # How many runs it took is no part of the results.
    values = {name: value for name, value in asdict(summary).items() if name != "resumed_part_count"}
    text = json.dumps({"schema_version": SCHEMA_VERSION, **values}, indent=1, ensure_ascii=False) + "\n"
    storage.write_bytes(storage.join(target, SUMMARY), text.encode())


class _Worker:
    """The loaded model, the threads that load images, and a folder for videos; a context manager."""

    def __init__(self, model: Bundle, settings: BatchSettings) -> None:
        self.predictor = Predictor.from_bundle(model.folder, settings.model_format or None)
        self.thread_count = settings.worker_count or core_count()
        self.threads = ThreadPoolExecutor(self.thread_count)
        self._folder = tempfile.TemporaryDirectory(prefix="visionyard-")
        self.scratch = Path(self._folder.name)

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown(cancel_futures=True)
        self.predictor.close()
        self._folder.cleanup()


def _write_part(
    worker: _Worker, part: Sequence[BatchItem], address: str, settings: BatchSettings, tally: Tally
) -> None:
    with writing_part(address, settings.file_format) as write:
        for record in _records(worker, part, settings):
            write(record)
            tally.add(record)


def _records(worker: _Worker, part: Sequence[BatchItem], settings: BatchSettings) -> Iterator[dict[str, Any]]:
    """Yield the records of a part in the order of its items; images of one part share inferences."""
    looked = _looked_at(worker, part, settings)
    while group := list(islice(looked, _BATCH_SIZE)):
        pictures = [picture.image for _, picture, _ in group if picture is not None]
        found = iter(
            worker.predictor.predict(
                pictures, confidence_threshold=settings.confidence_threshold, batch_size=_BATCH_SIZE
            )
        )
        for item, picture, problem in group:
            if picture is None:
                yield {**place_of(item), "error": problem}
                continue
            height, width = picture.image.shape[:2]
            values = prediction_to_json(next(found), worker.predictor.classes)
            yield {**place_of(item, picture), "width": width, "height": height, **values}
        del group, pictures, found, picture  # else they would be held while the next ones are loaded


def _looked_at(
    worker: _Worker, part: Sequence[BatchItem], settings: BatchSettings
) -> Iterator[tuple[BatchItem, Picture | None, str]]:
    """Yield each picture with its item, or None and what is wrong with the item."""
    for item, future in _loaded_ahead(worker, part):
        loaded: Picture | Path | None = None
        try:
            loaded = future.result()
            for picture in pictures_of(item, loaded, settings.rate_hz):
                yield item, picture, ""
        except MediaError as error:
            yield item, None, str(error)
        finally:
            if isinstance(loaded, Path) and loaded.parent == worker.scratch:
                with suppress(FileNotFoundError):
                    loaded.unlink()


def _loaded_ahead(worker: _Worker, part: Sequence[BatchItem]) -> Iterator[tuple[BatchItem, "Future[Picture | Path]"]]:
    # One a thread and one batch ahead: the inference never waits, and memory stays bounded.
    ahead = worker.thread_count + _BATCH_SIZE
    waiting: deque[tuple[BatchItem, Future[Picture | Path]]] = deque()
    try:
        for item in part:
            waiting.append((item, worker.threads.submit(load_item, item, worker.scratch)))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, future in waiting:
            future.cancel()
