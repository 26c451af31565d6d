"""Drift: the test against exact laws, false alarms and delays by simulation, the monitor beside requests."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.config.serving_config import DriftConfig, ServingConfig
from visionyard.inference import Bundle
from visionyard.inference.bundle import BundleManifest, ReferenceStatistics
from visionyard.monitoring import drift as drift_module
from visionyard.monitoring.drift import DriftMonitor
from visionyard.monitoring.drift_detector import DriftDetector
from visionyard.monitoring.drift_statistics import ReferenceTable, composition_p_value, hypergeometric_tail
from visionyard.monitoring.features import PICTURE_FEATURES, PictureFeatures, PredictionFeatures, picture_features
from visionyard.monitoring.features_reference import feature_reference, picture_references, prediction_references
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.monitoring.watch import ModelWatch
from visionyard.transforms import Classification, Detections

cv2 = pytest.importorskip("cv2")

CLASSES = ["astronaut", "cat", "coffee", "rocket"]


@pytest.mark.parametrize(
    ("window_count", "reference_count"), [(1, 1), (5, 7), (64, 20), (200, 300)], ids=lambda count: str(count)
)
def test_the_tail_bounds_the_exact_law(window_count: int, reference_count: int) -> None:
    law = pytest.importorskip("scipy.stats").hypergeom
    total = window_count + reference_count
    for hits in {1, total // 3, total // 2, total - 1}:
        drawn = np.arange(max(0, hits - reference_count), min(window_count, hits) + 1)

        found = hypergeometric_tail(drawn, np.array(window_count), hits - drawn, np.array(reference_count))

        exact = np.minimum(law.cdf(drawn, total, hits, window_count), law.sf(drawn - 1, total, hits, window_count))
        assert (found >= exact * (1 - 1e-9)).all()
        is_rare = exact < 0.01
        assert (found[is_rare] <= 1.5 * exact[is_rare]).all()


def test_p_values_are_rarely_small_without_drift() -> None:
    """Of 2000 references with a window each, at most one in twenty may have p <= 0.05: ties and edges included."""
    random = np.random.default_rng(0)
    draws: list[Callable[[int], np.ndarray]] = [
        lambda count: random.normal(size=count),
        lambda count: random.integers(0, 3, count).astype(float),
        lambda count: np.full(count, 640.0),
    ]
    small = np.zeros(len(draws))
    for _ in range(2000):
        references = {str(at): feature_reference(draw(30), None) for at, draw in enumerate(draws)}
        table = ReferenceTable({name: reference for name, reference in references.items() if reference})
        counts = sum(table.places(np.array(row)) for row in zip(*(draw(40) for draw in draws), strict=True))
        p_values, _ = table.p_values(np.asarray(counts), np.full(3, 40), np.ones(3))
        small += p_values <= 0.05

    assert (small / 2000 <= 0.05).all()


def test_the_statistic_is_the_largest_difference_of_shares() -> None:
    reference = feature_reference(np.arange(100.0), None)
    assert reference is not None
    table = ReferenceTable({"x": reference})
    window = np.arange(50.0, 100.0)

    counts = sum(table.places(np.array([value])) for value in window)
    (p_value,), (statistic,) = table.p_values(np.asarray(counts), np.array([50]), np.ones(1))

    assert statistic == pytest.approx(0.5, abs=0.02)
    assert p_value < 1e-8


def test_of_a_one_sided_feature_only_larger_values_count() -> None:
    reference = feature_reference(np.arange(100.0), None)
    assert reference is not None
    table = ReferenceTable({"near": reference, "far": reference, "both": reference}, one_sided={"near", "far"})

    counts = sum(table.places(np.array([value - 60, value + 60, value - 60])) for value in np.arange(100.0))
    near, far, both = table.p_values(np.asarray(counts), np.full(3, 100), np.ones(3))[0]

    assert near == 1
    assert far < 1e-8
    assert both < 1e-8


@pytest.mark.parametrize(
    ("window", "reference", "low", "high"),
    [
        pytest.param([50, 50], [30, 30], 1, 1, id="the same mix"),
        pytest.param([100, 0], [50, 50], 0, 1e-12, id="one class gone"),
        pytest.param([40, 30, 30], [0, 50, 50], 0, 1e-5, id="a new class"),
        pytest.param([7], [9], 1, 1, id="one class"),
        pytest.param([0, 0], [5, 5], 1, 1, id="empty window"),
    ],
)
def test_the_mix_of_classes(window: list[int], reference: list[int], low: float, high: float) -> None:
    assert low <= composition_p_value(np.array(window), np.array(reference)) <= high


def test_the_mix_of_classes_is_rarely_called_new_without_drift() -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.5, 0.2, 0.2, 0.08, 0.02])

    found = [composition_p_value(random.multinomial(60, shares), random.multinomial(40, shares)) for _ in range(4000)]

    assert np.mean(np.array(found) <= 0.05) <= 0.05


class _Pictures:
    """Cut-outs of photographs, measured once; a reference half and a served half."""

    def __init__(self) -> None:
        data = pytest.importorskip("skimage.data", reason="needs scikit-image")
        photographs = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
        random = np.random.default_rng(0)
        self.images, self.class_ids = [], []
        for _ in range(240):
            class_id = int(random.integers(len(photographs)))
            height, width = photographs[class_id].shape[:2]
            top, left = int(random.integers(height - 120)), int(random.integers(width - 160))
            self.images.append(np.ascontiguousarray(photographs[class_id][top : top + 120, left : left + 160]))
            self.class_ids.append(class_id)
        self.rows = self.measured(lambda image: image)
        self.answers = [
            PredictionFeatures(np.array([round(float(confidence), 6), np.nan]), np.array([class_id]))
            for confidence, class_id in zip(random.beta(8, 2, 240), self.class_ids, strict=True)
        ]
        features, embedding = picture_references(self.rows[:120], None)
        found, class_counts = prediction_references(self.answers[:120], CLASSES, None)
        self.statistics = ReferenceStatistics(
            images={},
            class_mix={},
            confidence=None,
            features=features | found,
            class_counts=class_counts,
            embedding=embedding,
        )

    def measured(self, change: Callable[[np.ndarray], Any]) -> list[PictureFeatures]:
        return [picture_features(np.asarray(change(image), dtype=np.uint8)) for image in self.images]

    def show(
        self, detector: DriftDetector, rows: list[PictureFeatures], count: int, *, seed: int, keep: tuple[int, ...] = ()
    ) -> Iterator[bool]:
        """Show `count` pictures of the served half, only of the classes in `keep`; yield whether the alarm is on."""
        served = [at for at in range(120, 240) if not keep or self.class_ids[at] in keep]
        for at in np.random.default_rng(seed).choice(served, count):
            values = detector.values_of(PICTURE_FEATURES, rows[at])
            values["confidence"] = float(self.answers[at].values[0])
            detector.push(values, self.answers[at])
            yield detector.is_drifted


@pytest.fixture(scope="module")
def pictures() -> _Pictures:
    return _Pictures()


def test_no_false_alarm_in_ten_thousand_pictures(pictures: _Pictures) -> None:
    detector = DriftDetector(pictures.statistics, CLASSES, window=256)

    assert not any(pictures.show(detector, pictures.rows, 10_000, seed=1))


_CHANGES = [
    pytest.param(lambda image: cv2.GaussianBlur(image, (0, 0), 1.2), (), "sharpness", id="blur"),
    pytest.param(lambda image: image * 0.4, (), "brightness", id="darkness"),
    pytest.param(lambda image: image, (1, 2), "class_mix", id="new class mix"),
    pytest.param(lambda image: cv2.resize(image, (320, 240)), (), "width_px", id="camera of another size"),
    pytest.param(
        lambda image: np.clip(image * np.array([1.1, 1, 0.7]), 0, 255), (), "red_blue", id="camera with another tint"
    ),
]


@pytest.mark.parametrize(("change", "keep", "feature"), _CHANGES)
def test_a_change_is_found_within_500_requests_and_its_end_too(
    pictures: _Pictures, change: Callable[[np.ndarray], Any], keep: tuple[int, ...], feature: str
) -> None:
    detector = DriftDetector(pictures.statistics, CLASSES, window=256)
    changed = pictures.measured(change)

    before = list(pictures.show(detector, pictures.rows, 600, seed=2))
    during = list(pictures.show(detector, changed, 500, seed=3, keep=keep))
    found = detector.features[feature]
    after = list(pictures.show(detector, pictures.rows, 600, seed=4))

    assert not any(before)
    assert during[-1]
    assert found.is_drifted
    assert found.p_value <= detector.level
    assert not after[-1]


def test_frames_of_long_scenes_are_not_called_drift(pictures: _Pictures) -> None:
    """Sixteen-fold repeats of each picture: 256 pictures that tell as much as 16."""
    detector = DriftDetector(pictures.statistics, CLASSES, window=256)
    repeated = np.repeat(np.random.default_rng(5).choice(np.arange(120, 240), 250), 16)
    alarms = []
    for at in repeated:
        detector.push(detector.values_of(PICTURE_FEATURES, pictures.rows[at]), pictures.answers[at])
        alarms.append(detector.is_drifted)

    assert not any(alarms)


def test_answers_that_are_not_comparable_leave_the_class_mix_alone(pictures: _Pictures) -> None:
    detector = DriftDetector(pictures.statistics, CLASSES, window=64)

    for at in range(120, 220):
        detector.push(detector.values_of(PICTURE_FEATURES, pictures.rows[at]), None)

    assert detector.features["class_mix"].observed_count == 0
    assert detector.features["class_mix"].p_value == 1
    assert detector.features["brightness"].observed_count > 0


@pytest.fixture
def tiny_manifest(tiny_bundle: Callable[[str], tuple[Path, Path]]) -> BundleManifest:
    return Bundle.open(tiny_bundle("classification")[0]).manifest


def _noise(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(90, 150, (80, 96, 3)).astype(np.uint8) for _ in range(count)]


def _with_reference(manifest: BundleManifest, count: int) -> BundleManifest:
    """Return the manifest as of a bundle whose data had more pictures than the tiny one."""
    features, embedding = picture_references([picture_features(image) for image in _noise(count)], None)
    assert manifest.reference_statistics is not None
    statistics = manifest.reference_statistics.model_copy(
        update={"features": manifest.reference_statistics.features | features, "embedding": embedding}
    )
    return manifest.model_copy(update={"reference_statistics": statistics})


@pytest.fixture
def manifest(tiny_manifest: BundleManifest) -> BundleManifest:
    return _with_reference(tiny_manifest, 64)


@pytest.fixture
def monitor(manifest: BundleManifest) -> Iterator[Callable[..., DriftMonitor]]:
    """Return a function that starts a monitor, closed at the end."""
    made: list[DriftMonitor] = []

    def start(*, with_reference: bool = True, share: float = 1.0, window: int = 64) -> DriftMonitor:
        chosen = manifest if with_reference else manifest.model_copy(update={"reference_statistics": None})
        made.append(DriftMonitor(chosen, DriftConfig(window=window, max_cpu_share=share)))
        return made[-1]

    yield start
    for each in made:
        each.close()


def _grey(level: int) -> np.ndarray:
    return np.full((80, 96, 3), level, np.uint8)


_ANSWER = Classification(np.array([0.1, 0.9], np.float32))


def _observe_all(monitor: DriftMonitor, images: list[np.ndarray]) -> None:
    """Show pictures no faster than they are measured, so that none is left out."""
    for image in images:
        monitor.observe(image, _ANSWER)
        assert monitor.wait_until_idle(5)


def test_the_bundle_carries_the_reference_that_serving_needs(tiny_manifest: BundleManifest) -> None:
    manifest = tiny_manifest
    statistics = manifest.reference_statistics

    assert statistics is not None
    assert set(statistics.features) == {*PICTURE_FEATURES, "embedding_distance", "confidence"}
    assert statistics.features["brightness"].count == 9
    assert statistics.features["confidence"].count == 6
    assert set(statistics.class_counts) == set(manifest.classes)
    assert statistics.features["brightness"].mean == pytest.approx(statistics.images["brightness"].mean)
    assert BundleManifest.model_validate_json(manifest.to_text()) == manifest


def test_pictures_unlike_the_bundles_are_found(monitor: Callable[..., DriftMonitor]) -> None:
    watching = monitor()

    _observe_all(watching, [_grey(10)] * 80)
    report = watching.report()

    assert watching.is_drifted
    assert report.status == "watching"
    assert report.reference == "bundle"
    assert report.observed_count == 80
    (brightness,) = [feature for feature in report.features if feature.feature == "brightness"]
    assert brightness.is_drifted
    assert brightness.current == pytest.approx(10 / 255, abs=1e-3)
    assert brightness.reference > 0.3
    assert report.to_json()["features"][0]["feature"] == "width_px"


def test_a_few_examples_are_no_reference(tiny_manifest: BundleManifest) -> None:
    watching = DriftMonitor(tiny_manifest, DriftConfig())
    watching.close()

    assert watching.report().reference == "first_requests"


def test_without_a_reference_the_first_pictures_become_it(monitor: Callable[..., DriftMonitor]) -> None:
    watching = monitor(with_reference=False)
    pictures = _noise(270)

    _observe_all(watching, pictures[:255])
    learning = watching.report()
    _observe_all(watching, pictures[255:])
    learned = watching.report()
    _observe_all(watching, [image // 3 for image in pictures[:80]])

    assert (learning.status, learning.reference_count, learning.features) == ("learning", 255, [])
    assert (learned.status, learned.reference, learned.reference_count) == ("watching", "first_requests", 256)
    assert not learned.is_drifted
    assert watching.is_drifted


def test_pictures_beyond_the_processor_share_are_left_out(monitor: Callable[..., DriftMonitor]) -> None:
    watching = monitor(share=0.05)

    start = time.monotonic()
    while time.monotonic() - start < 1:
        watching.observe(_grey(100), _ANSWER)
        watching.wait_until_idle(1)
    watching.close()
    report = watching.report()

    assert report.skipped_count > 0
    assert report.observed_count > 0
    # What one quiet second saved up, the share of the time since, and a picture too many that a busy machine made
    # long; without the share it would be the whole time.
    assert report.cpu_s <= 0.05 * (1 + time.monotonic() - start) + 0.15


def test_observing_returns_at_once(monitor: Callable[..., DriftMonitor]) -> None:
    watching = monitor(share=0.05)
    image = np.zeros((1080, 1920, 3), np.uint8)
    times = []
    for _ in range(500):
        start = time.thread_time()
        watching.observe(image, _ANSWER)
        times.append(time.thread_time() - start)

    assert np.median(times) < 50e-6


def test_what_waits_is_bounded(monitor: Callable[..., DriftMonitor], monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Event()

    def measure(image: np.ndarray) -> PictureFeatures:
        assert may_go_on.wait(10)
        return picture_features(image)

    monkeypatch.setattr(drift_module, "picture_features", measure)
    monkeypatch.setattr(drift_module, "_MAX_WAITING_BYTES", 3 * _grey(0).nbytes)
    watching = monitor()
    for _ in range(20):
        watching.observe(_grey(100), _ANSWER)
    may_go_on.set()
    assert watching.wait_until_idle(5)
    report = watching.report()

    assert report.observed_count in {3, 4}  # one may have been taken out before the others came
    assert report.observed_count + report.skipped_count == 20


def test_a_picture_that_cannot_be_measured_ends_nothing(
    monitor: Callable[..., DriftMonitor], caplog: pytest.LogCaptureFixture
) -> None:
    watching = monitor()

    _observe_all(watching, [np.zeros((0, 0, 3), np.uint8), _grey(100)])
    report = watching.report()

    assert (report.failed_count, report.observed_count) == (1, 1)
    assert "shape (0, 0, 3)" in caplog.text


def test_boxes_asked_for_with_other_options_do_not_count(
    tiny_bundle: Callable[[str], tuple[Path, Path]],
) -> None:
    manifest = _with_reference(Bundle.open(tiny_bundle("detection")[0]).manifest, 64)
    watching = DriftMonitor(manifest, DriftConfig(window=32, max_cpu_share=1.0))
    nothing = Detections(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.float32))
    for image in _noise(64):
        watching.observe(image, nothing, has_own_options=True)
        assert watching.wait_until_idle(5)
    watching.close()

    counts = {feature.feature: feature.observed_count for feature in watching.report().features}
    assert counts["object_count"] == counts["class_mix"] == 0
    assert counts["brightness"] > 0


def test_the_watch_publishes_series_and_samples(manifest: BundleManifest, tmp_path: Path) -> None:
    config = ServingConfig.model_validate(
        {"drift": {"window": 64, "max_cpu_share": 1.0}, "sampling": {"uri": str(tmp_path), "rate": 1.0}}
    )
    metrics = ServingMetrics()
    watch = ModelWatch(manifest, config, name="digits", digest="d" * 64, metrics=metrics)
    for _ in range(80):
        watch.note(None, _grey(10), _ANSWER, group="door")
        assert watch.wait_until_idle(5)
    watch.close()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"visionyard_serving_{name}", {"model": "digits", **labels})

    assert value("drift_detected", feature="brightness") == 1
    assert (value("drift_p_value", feature="brightness") or 1) < 1e-6
    assert (value("drift_observed_total") or 0) >= 64
    assert value("sample_failures_total") == 0
    assert value("samples_total", reason="ordinary") == 1  # all the same picture
    assert len(list(tmp_path.rglob("*.tar"))) == 1


def test_watching_needs_nothing_that_the_serving_image_lacks() -> None:
    code = (
        "import sys, visionyard.monitoring.watch\n"
        "print(*sorted({'torch', 'pyarrow', 'av', 'pandas', 'scipy', 'mlflow', 'kfp', 'sklearn'} & sys.modules.keys()))"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert result.stdout.split() == []


def test_what_is_switched_off_is_not_there(manifest: BundleManifest) -> None:
    config = ServingConfig.model_validate({"drift": {"enabled": False}})
    watch = ModelWatch(manifest, config, name="digits", digest="d" * 64, metrics=ServingMetrics())

    watch.note(None, _grey(10), _ANSWER)

    assert watch.report() is None
    watch.close()
