"""Drift of a served model's pictures: beside the requests, in a thread of its own, within a share of one core.

A request hands its picture over and goes on; nothing is copied. What the processor share does not allow is not looked
at: a picture that is left out is counted, and the windows then span more requests.

A bundle without reference features, or with those of fewer than 32 pictures (imported with a few examples, or of an
earlier version), is watched against its own beginning: the first pictures served become the reference, and the report
says so.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from visionyard.config.serving_config import DriftConfig
from visionyard.inference.bundle import BundleManifest, ReferenceStatistics
from visionyard.inference.reference import FeatureReference
from visionyard.monitoring.drift_detector import FALSE_ALARMS_PER_PICTURE, DriftDetector, FeatureDrift
from visionyard.monitoring.features import (
    PICTURE_FEATURES,
    PREDICTION_FEATURES,
    PictureFeatures,
    PredictionFeatures,
    confidence_threshold_of,
    picture_features,
    prediction_features,
)
from visionyard.monitoring.features_reference import group_order, picture_references, prediction_references
from visionyard.transforms import Prediction

# Pictures that wait: what comes in while one is measured, and no more memory than that.
_MAX_WAITING_COUNT = 32
_MAX_WAITING_BYTES = 64 << 20
# Several pictures in a row cost a quarter less than single ones between requests, and wake the thread less often.
_GATHERED_COUNT = 8
_GATHERING_S = 0.1
# Processor time saved up in quiet seconds and spent at once in a burst.
_SAVED_S = 1.0
# Fewer pictures in a bundle are hand-picked examples, and most that is served would differ from them.
MIN_REFERENCE_COUNT = 32
# As many as an export describes.
_MIN_LEARNED_COUNT = 256
_TOLD_EVERY = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DriftReport:
    """How the pictures of a model compare with its reference.

    Attributes:
        status: `learning` while the first pictures become the reference, then `watching`.
        reference: `bundle`, or `first_requests` where the bundle has none.
        reference_count: Pictures behind the reference; while learning, those gathered so far.
        observed_count: Pictures looked at since the start.
        skipped_count: Pictures not looked at, to keep within the processor share.
        failed_count: Pictures that could not be measured; the reason is in the log.
        cpu_s: Processor seconds spent on all of it.
        window: Pictures of the long window.
        level: p-value at or below which an alarm begins.
        false_alarms_per_100k: Expected at most, in 100,000 pictures looked at that do not drift.
        features: One for each feature.
    """

    status: Literal["learning", "watching"]
    reference: Literal["bundle", "first_requests"]
    reference_count: int
    observed_count: int
    skipped_count: int
    failed_count: int
    cpu_s: float
    window: int
    level: float
    false_alarms_per_100k: float
    features: list[FeatureDrift]

    @property
    def is_drifted(self) -> bool:
        """The alarm of any feature is on."""
        return any(feature.is_drifted for feature in self.features)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {"is_drifted": self.is_drifted, **asdict(self)}


@dataclass(frozen=True)
class _Waiting:
    image: np.ndarray
    prediction: Prediction
    group: str
    has_own_options: bool


class DriftMonitor:
    """Watches one model; every method may be called from any thread."""

    def __init__(
        self, manifest: BundleManifest, config: DriftConfig, *, on_test: Callable[[], None] | None = None
    ) -> None:
        """Start watching.

        Args:
            manifest: Of the served bundle.
            config: Window and processor share.
            on_test: Called from the watching thread after every test of the windows, and as often while learning.
        """
        self._on_test = on_test
        self._classes = manifest.classes
        self._config = config
        self._threshold = confidence_threshold_of(manifest.postprocessing)
        statistics = manifest.reference_statistics
        self._reference_count = _picture_count(statistics)
        has_reference = self._reference_count >= MIN_REFERENCE_COUNT
        self._detector = self._watch(statistics) if statistics is not None and has_reference else None
        self._reference: Literal["bundle", "first_requests"] = "bundle" if has_reference else "first_requests"
        self._learned: list[tuple[PictureFeatures, PredictionFeatures | None, str]] = []
        self._learned_count = max(config.window, _MIN_LEARNED_COUNT)
        self._observed_count = self._skipped_count = self._failed_count = 0
        self._spent_s = 0.0
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._is_measuring = self._is_closed = self._is_awaited = False
        self._changed = threading.Condition()
        self._saved_s, self._saved_at = _SAVED_S * config.max_cpu_share, time.monotonic()
        self._thread = threading.Thread(target=self._work, name="drift", daemon=True)
        self._thread.start()

    def observe(
        self, image: np.ndarray, prediction: Prediction, *, group: str = "", has_own_options: bool = False
    ) -> None:
        """Hand a picture over; returns within microseconds, and may leave the picture out.

        Args:
            image: (H, W, 3) uint8 RGB, upright; kept for a moment, so it must not be written to afterwards.
            prediction: The model's answer.
            group: What the caller says the picture belongs to: pictures of one group count as related.
            has_own_options: The request asked for another threshold or number of boxes than the bundle's; its answer
                is then not comparable, its picture still is.
        """
        with self._changed:
            is_full = self._waiting and (
                len(self._waiting) >= _MAX_WAITING_COUNT or self._waiting_bytes + image.nbytes > _MAX_WAITING_BYTES
            )
            if is_full or self._is_closed or self._allowance() <= 0:
                self._skipped_count += 1
                return
            self._waiting.append(_Waiting(image, prediction, group, has_own_options))
            self._waiting_bytes += image.nbytes
            if not self._is_measuring and len(self._waiting) in {1, _GATHERED_COUNT}:
                self._changed.notify_all()

    @property
    def is_drifted(self) -> bool:
        """The alarm of any feature is on; cheap enough to ask for every picture."""
        detector = self._detector
        return detector is not None and detector.is_drifted

    def report(self) -> DriftReport:
        """Return how things stand."""
        with self._changed:
            detector = self._detector
            return DriftReport(
                status="learning" if detector is None else "watching",
                reference=self._reference,
                reference_count=self._reference_count if detector else len(self._learned),
                observed_count=self._observed_count,
                skipped_count=self._skipped_count,
                failed_count=self._failed_count,
                cpu_s=round(self._spent_s, 3),
                window=self._config.window,
                level=detector.level if detector else 0.0,
                false_alarms_per_100k=FALSE_ALARMS_PER_PICTURE * 100_000,
                features=list(detector.features.values()) if detector else [],
            )

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until all pictures handed over are measured; return False when that takes longer than `timeout_s`."""
        with self._changed:
            self._is_awaited = True
            self._changed.notify_all()
            is_idle = self._changed.wait_for(lambda: not self._waiting and not self._is_measuring, timeout_s)
            self._is_awaited = False
            return is_idle

    def close(self) -> None:
        """Stop; pictures that wait are dropped."""
        with self._changed:
            self._is_closed = True
            self._waiting_bytes -= sum(waiting.image.nbytes for waiting in self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(timeout=5.0)

    def _allowance(self) -> float:
        """Return the processor seconds that may be spent now; may be below 0 after an expensive picture."""
        now = time.monotonic()
        share = self._config.max_cpu_share
        self._saved_s = min(_SAVED_S * share, self._saved_s + (now - self._saved_at) * share)
        self._saved_at = now
        return self._saved_s

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                self._changed.wait_for(self._is_worth_beginning, _GATHERING_S)
                self._is_measuring = True
            while waiting := self._next():
                start = time.thread_time()
                is_measured = self._measure(waiting)
                self._account(waiting, is_measured=is_measured, spent_s=time.thread_time() - start)
                del waiting  # the picture must not stay in memory until the next one comes
            with self._changed:
                self._is_measuring = False
                self._changed.notify_all()
                if self._is_closed:
                    return

    def _is_worth_beginning(self) -> bool:
        return self._is_closed or self._is_awaited or len(self._waiting) >= _GATHERED_COUNT

    def _next(self) -> _Waiting | None:
        with self._changed:
            return self._waiting.popleft() if self._waiting else None

    def _account(self, waiting: _Waiting, *, is_measured: bool, spent_s: float) -> None:
        with self._changed:
            self._waiting_bytes -= waiting.image.nbytes
            self._observed_count += is_measured
            self._failed_count += not is_measured
            self._saved_s -= spent_s
            self._spent_s += spent_s

    def _measure(self, waiting: _Waiting) -> bool:
        try:
            picture = picture_features(waiting.image)
            answer = None
            if not waiting.has_own_options:
                answer = prediction_features(waiting.prediction, confidence_threshold=self._threshold)
            is_due = self._take(picture, answer, waiting.group)
        except Exception:
            # Watching must outlive whatever one picture does to it; the count of failures is in the report.
            if not self._failed_count:
                _log.exception("a picture of shape %s could not be watched for drift", waiting.image.shape)
            return False
        if is_due and self._on_test is not None:
            self._on_test()
        return True

    def _take(self, picture: PictureFeatures, answer: PredictionFeatures | None, group: str) -> bool:
        """Take a measured picture in; return whether there is something new to tell."""
        detector = self._detector
        if detector is None:
            self._learned.append((picture, answer, group))
            is_due = len(self._learned) % _TOLD_EVERY == 0
            if len(self._learned) >= self._learned_count:
                self._detector, self._reference_count = self._watch(self._learned_statistics()), len(self._learned)
                self._learned = []
            return is_due
        values = detector.values_of(PICTURE_FEATURES, picture)
        if answer is not None:
            values |= dict(zip(PREDICTION_FEATURES, answer.values.tolist(), strict=True))
        return detector.push(values, answer, group=group)

    def _watch(self, statistics: ReferenceStatistics) -> DriftDetector:
        return DriftDetector(statistics, self._classes, window=self._config.window)

    def _learned_statistics(self) -> ReferenceStatistics:
        pictures, answers, groups = zip(*self._learned, strict=True)
        features, embedding = picture_references(pictures, _order(groups), groups=groups)
        known = [(answer, group) for answer, group in zip(answers, groups, strict=True) if answer is not None]
        class_counts: dict[str, FeatureReference] = {}
        if known:
            order = _order([group for _, group in known])
            found, class_counts = prediction_references([answer for answer, _ in known], self._classes, order)
            features |= found
        return ReferenceStatistics(
            images={}, class_mix={}, confidence=None, features=features, class_counts=class_counts, embedding=embedding
        )


def _picture_count(statistics: ReferenceStatistics | None) -> int:
    if statistics is None:
        return 0
    return max((statistics.features[name].count for name in PICTURE_FEATURES if name in statistics.features), default=0)


def _order(groups: Sequence[str]) -> np.ndarray | None:
    """Return the order in which pictures may be related: by group where groups are named, else as they came."""
    return group_order(groups) if any(groups) else np.arange(len(groups))
