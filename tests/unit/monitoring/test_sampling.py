"""Samples: which are kept, how they reach the store, and that they can be ingested with their groups."""

import io
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visionyard import storage
from visionyard.cli.app import app
from visionyard.config.serving_config import SamplingConfig
from visionyard.data.artifacts import IMAGES
from visionyard.data.ingest import ingest
from visionyard.data.items import Item, read_json_lines
from visionyard.errors import DataError, StorageError
from visionyard.monitoring import sampling
from visionyard.monitoring.sampling import Sampler, picture_hash
from visionyard.monitoring.sampling_shards import GROUP_PATTERN, gather_samples, plain_name
from visionyard.transforms import Classification, Detections, Prediction

SURE = Classification(np.array([0.9, 0.1], np.float32))
UNSURE = Classification(np.array([0.45, 0.55], np.float32))
_HOUR_S = 3600.0


def _picture(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Return a picture whose perceptual hash differs from other seeds'."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(cells).resize(size[::-1], Image.Resampling.NEAREST))


def _items(folder: Path) -> list[Item]:
    return [Item.from_json(line) for line in read_json_lines(folder / "sources" / IMAGES)]


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _boxes(*confidences: float) -> Detections:
    count = len(confidences)
    return Detections(
        np.tile([8.0, 6.0, 40.0, 30.0], (count, 1)), np.ones(count, np.int64), np.array(confidences, np.float32)
    )


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Sampler]]:
    """Return a function that makes a sampler on a folder, closed at the end."""
    made: list[Sampler] = []

    def build(*, rate: float = 1.0, hard_rate: float = 1.0, max_per_hour: int = 1000, **options: object) -> Sampler:
        config = SamplingConfig(
            uri=str(tmp_path / "samples"), rate=rate, hard_rate=hard_rate, max_per_hour=max_per_hour
        )
        options = {"classes": ["cat", "dog"], **options}
        made.append(Sampler(config, model="pets", digest="d" * 64, **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for sampler in made:
        sampler.close()


def _offer(sampler: Sampler, seed: int, prediction: Prediction = SURE, **options: object) -> str | None:
    image = _picture(seed)
    values = {"group": "", "is_drifted": False, **options}
    return sampler.offer(_jpeg(image), image, prediction, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prediction", "options", "expected"),
    [
        pytest.param(SURE, {}, "ordinary", id="sure class"),
        pytest.param(UNSURE, {}, "low_margin", id="two classes close together"),
        pytest.param(Classification(np.array([1.0], np.float32)), {}, "ordinary", id="one class only"),
        pytest.param(_boxes(0.9), {}, "ordinary", id="sure box"),
        pytest.param(_boxes(0.3), {}, "near_threshold", id="box near the threshold"),
        pytest.param(_boxes(0.3, 0.9, 0.9, 0.9), {}, "near_threshold", id="one of four boxes near the threshold"),
        pytest.param(_boxes(0.3, 0.9, 0.9, 0.9, 0.9), {}, "ordinary", id="one of five boxes near the threshold"),
        pytest.param(_boxes(0.1), {}, "ordinary", id="box below the threshold"),
        pytest.param(
            Detections(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, np.float32)), {}, "ordinary", id="nothing found"
        ),
        pytest.param(SURE, {"is_drifted": True}, "drift", id="drift"),
        pytest.param(UNSURE, {"is_disputed": True, "is_drifted": True}, "disagreement", id="two models disagree"),
    ],
)
def test_the_reason_says_what_makes_an_image_worth_keeping(
    make: Callable[..., Sampler], prediction: Prediction, options: dict[str, bool], expected: str
) -> None:
    assert _offer(make(), 0, prediction, **options) == expected


def test_hard_images_are_drawn_by_their_own_rate(make: Callable[..., Sampler]) -> None:
    sampler = make(rate=0.1, hard_rate=0.5, draw=lambda: 0.3)

    assert _offer(sampler, 0, SURE) is None
    assert _offer(sampler, 1, UNSURE) == "low_margin"


def test_nothing_is_kept_when_sampling_is_off() -> None:
    sampler = Sampler(SamplingConfig(rate=1.0), model="pets", digest="d" * 64)

    assert _offer(sampler, 0) is None
    assert not any(thread.name == "sampling" for thread in threading.enumerate())
    sampler.close()


def test_ordinary_images_leave_half_of_the_hour_to_hard_ones(make: Callable[..., Sampler]) -> None:
    now = [1_000_000.0]
    sampler = make(max_per_hour=10, clock=lambda: now[0])

    ordinary = [_offer(sampler, seed) for seed in range(8)]
    hard = [_offer(sampler, seed, UNSURE) for seed in range(100, 108)]
    now[0] += _HOUR_S
    later = _offer(sampler, 50)

    assert ordinary.count("ordinary") == 5
    assert hard.count("low_margin") == 5
    assert later == "ordinary"


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        pytest.param(lambda image: image, False, id="the same"),
        pytest.param(lambda image: np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8), False, id="looks the same"),
        pytest.param(lambda image: image[:, ::-1], True, id="mirrored"),
    ],
)
def test_an_image_seen_before_is_passed_over(
    make: Callable[..., Sampler], change: Callable[[np.ndarray], np.ndarray], is_kept: bool
) -> None:
    sampler = make()
    _offer(sampler, 0)
    again = np.ascontiguousarray(change(_picture(0)))

    reason = sampler.offer(None, again, SURE, group="", is_drifted=False)

    assert (reason is not None) == is_kept


def test_what_looks_alike_is_kept_again_after_an_hour(make: Callable[..., Sampler]) -> None:
    now = [1_000_000.0]
    sampler = make(clock=lambda: now[0])
    image = _picture(0)

    first = sampler.offer(None, image, SURE, group="", is_drifted=False)
    now[0] += _HOUR_S + 1
    second = sampler.offer(None, image // 2, SURE, group="", is_drifted=False)

    assert (first, second) == ("ordinary", "ordinary")


def test_a_black_picture_has_no_hash() -> None:
    assert picture_hash(np.zeros((20, 30, 3), np.uint8)) is None


def test_samples_of_a_classifier_are_ingested_with_their_groups(make: Callable[..., Sampler], tmp_path: Path) -> None:
    sampler = make()
    for seed, group in enumerate(["door/1", "door/1", "yard", ""]):
        assert _offer(sampler, seed, UNSURE if seed == 2 else SURE, group=group)
    sampler.close()

    count = gather_samples(str(tmp_path / "samples/pets"), tmp_path / "source")
    report = ingest(str(tmp_path / "source"), tmp_path / "sources", group_pattern=GROUP_PATTERN)

    items = _items(tmp_path)
    assert (count, report.kind, report.image_count, report.problem_count) == (4, "images_by_class", 4, 0)
    assert sorted(item.class_name for item in items if item.class_name) == ["cat", "cat", "cat", "dog"]
    groups = [item.group for item in items]
    assert groups.count(plain_name("door/1")) == 2
    assert len(set(groups)) == 3


def test_samples_of_a_detector_are_ingested_with_boxes(make: Callable[..., Sampler], tmp_path: Path) -> None:
    sampler = make()
    _offer(sampler, 0, _boxes(0.9), group="lane-3")
    empty = Detections(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, np.float32))
    sampler.offer(None, _picture(1), empty, group="lane-4", is_drifted=False)
    sampler.close()

    gather_samples(str(tmp_path / "samples/pets"), tmp_path / "source")
    report = ingest(str(tmp_path / "source"), tmp_path / "sources", group_pattern=GROUP_PATTERN)

    items = {item.group: item for item in _items(tmp_path)}
    assert (report.kind, report.problem_count, report.classes) == ("images_yolo", 0, ("cat", "dog"))
    (box,) = items["lane-3"].boxes or ()
    assert box.class_name == "dog"
    assert box.xyxy == pytest.approx((8, 6, 40, 30), abs=1e-3)
    assert not items["lane-4"].boxes


def test_each_image_has_a_line_that_tells_where_it_came_from(make: Callable[..., Sampler], tmp_path: Path) -> None:
    sampler = make(clock=lambda: 1_700_000_000.0)
    _offer(sampler, 0, UNSURE, group="yard")
    sampler.close()

    (path,) = (tmp_path / "samples/pets/2023-11-14").glob("*.jsonl")
    (line,) = map(json.loads, path.read_text().splitlines())

    assert line["name"].startswith("dog/yard--")
    assert (line["group"], line["reason"], line["model_digest"]) == ("yard", "low_margin", "d" * 64)
    assert line["time"] == "2023-11-14T22:13:20+00:00"
    assert line["prediction"]["class"] == "dog"


def test_a_store_that_is_down_costs_no_request_and_later_gets_all(
    make: Callable[..., Sampler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, tries, failed = storage.write_bytes, itertools.count(), threading.Event()

    def fails_first(uri: str, data: bytes) -> None:
        if next(tries) == 0:
            raise StorageError("the store is down")
        write(uri, data)

    monkeypatch.setattr(storage, "write_bytes", fails_first)
    monkeypatch.setattr(sampling, "_SHARD_COUNT", 1)
    monkeypatch.setattr(sampling, "_FIRST_RETRY_S", 0.01)
    sampler = make(on_failure=failed.set)

    assert _offer(sampler, 0) == "ordinary"
    assert failed.wait(5)
    assert _offer(sampler, 1) == "ordinary"
    sampler.close()

    assert (sampler.failed_count, sampler.written_count, sampler.dropped_count) == (1, 2, 0)
    assert gather_samples(str(tmp_path / "samples/pets"), tmp_path / "source") == 2


def test_memory_is_bounded_while_the_store_is_down(
    make: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(uri: str, data: bytes) -> None:
        raise StorageError("the store is down")

    monkeypatch.setattr(storage, "write_bytes", fails)
    monkeypatch.setattr(sampling, "_MAX_WAITING_BYTES", 3 * _picture(0).nbytes)
    sampler = make()

    reasons = [sampler.offer(None, _picture(seed), SURE, group="", is_drifted=False) for seed in range(6)]
    sampler.close()

    assert reasons == ["ordinary"] * 3 + [None] * 3
    assert sampler.written_count == 0
    assert sampler.dropped_count == 6


def test_a_closed_sampler_keeps_nothing_more(make: Callable[..., Sampler]) -> None:
    sampler = make()
    sampler.close()

    assert _offer(sampler, 0) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("camera-3", "camera-3", id="plain"),
        pytest.param("../../etc/passwd", "etc_passwd-", id="a path"),
        pytest.param("..", "x-", id="dots only"),
        pytest.param("тест", "x-", id="no plain letter"),
    ],
)
def test_names_from_outside_become_plain(text: str, expected: str) -> None:
    found = plain_name(text)

    assert found.startswith(expected)
    assert "/" not in found
    assert found not in {".", ".."}
    assert plain_name(text + "x") != found


def test_samples_go_through_an_object_store(s3: str, tmp_path: Path) -> None:
    sampler = Sampler(
        SamplingConfig(uri=f"{s3}/samples", rate=1), model="pets", digest="d" * 64, classes=["cat", "dog"]
    )
    for seed in range(3):
        assert _offer(sampler, seed, group="yard")
    sampler.close()

    assert sampler.written_count == 3
    result = CliRunner().invoke(app, ["samples", f"{s3}/samples/pets", str(tmp_path / "source")])
    assert result.exit_code == 0, result.output
    assert "3 images in" in result.output
    assert len(list((tmp_path / "source").rglob("*.jpg"))) == 3


@pytest.mark.parametrize("is_there", [pytest.param(True, id="folder exists"), pytest.param(False, id="no samples")])
def test_gathering_says_what_is_wrong(tmp_path: Path, is_there: bool) -> None:
    target = tmp_path / "target"
    (tmp_path / "empty").mkdir()
    if is_there:
        target.mkdir()

    with pytest.raises(DataError, match="exists already" if is_there else "no samples found"):
        gather_samples(str(tmp_path / "empty"), target)
