"""Samples of what a model is asked about, kept in the object store for the next dataset version; off by default.

A request only draws a number and, if the draw says so, hands its picture over; writing happens in a thread of its own.
A store that is down costs samples, never a request. Preferred are the pictures that teach most: those the model was
unsure of (least margin: B. Settles, Active Learning Literature Survey, 2009, section 3.1), those on which two models
disagree, and those that came while drift was found. What looks like a picture kept within the last hour is passed over.
"""

import hashlib
import logging
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import cv2
import numpy as np

from visionyard.config.serving_config import SamplingConfig
from visionyard.errors import StorageError
from visionyard.monitoring.sampling_shards import KeptImage, write_shard
from visionyard.transforms import Classification, Detections, Prediction

# Difference of the two best probabilities below which a class is hardly chosen: no source, as wide as 0.6 against 0.4.
LOW_MARGIN = 0.2
# Boxes that stand so little above the threshold that they might as well not have been found make an image hard, if they
# are so large a part of all: among twenty boxes one or two always stand there.
NEAR_THRESHOLD = 0.1
NEAR_PART = 0.25
# Of the images an hour, how many may be ordinary ones: the rest waits for hard ones.
_ORDINARY_PART = 0.5
_HOUR_S = 3600.0
# A shard is written when it holds so much or its first image has waited so long.
_SHARD_COUNT = 64
_SHARD_BYTES = 16 << 20
_SHARD_AGE_S = 60.0
_MAX_WAITING_BYTES = 64 << 20
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0
_CLOSE_S = 30.0
_REMEMBERED_COUNT = 10_000
_HASH_SIDE_PX = 64
# Grey levels; below it the hash is noise.
_MIN_CONTRAST = 8
# Bits of 64 that may differ in pictures that look alike: compression and scaling change up to 3 in our tests.
_MAX_DISTANCE = 4

_log = logging.getLogger(__name__)


class Sampler:
    """Keeps samples of one model; every method may be called from any thread."""

    def __init__(
        self,
        config: SamplingConfig,
        *,
        model: str,
        digest: str,
        classes: Sequence[str] = (),
        confidence_threshold: float = 0.25,
        on_failure: Callable[[], None] | None = None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start the writing thread, unless sampling is off.

        Args:
            config: Place, rates and limits; with an empty `uri` nothing is ever kept.
            model: Name in the URLs.
            digest: SHA-256 of the bundle.
            classes: Names in the order of their ids; ids stand for those that are missing.
            confidence_threshold: The bundle's own; boxes little above it are hard.
            on_failure: Called when the store did not take a shard.
            draw: Returns a number in [0, 1).
            clock: Returns seconds since 1970.
        """
        self._config, self._model, self._digest = config, model, digest
        self._classes, self._threshold = list(classes), confidence_threshold
        self._on_failure, self._draw, self._clock = on_failure, draw, clock
        self.kept_count = self.written_count = self.failed_count = self.dropped_count = 0
        self._waiting: deque[KeptImage] = deque()
        self._waiting_bytes = 0
        self._kept_at: deque[tuple[float, bool]] = deque()
        self._ordinary_count = 0
        self._digests: OrderedDict[str, None] = OrderedDict()
        self._hashes: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED_COUNT)
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        if config.uri:
            self._thread = threading.Thread(target=self._work, name="sampling", daemon=True)
            self._thread.start()

    def offer(
        self,
        data: bytes | None,
        image: np.ndarray,
        prediction: Prediction,
        *,
        group: str,
        is_drifted: bool,
        is_disputed: bool = False,
    ) -> str | None:
        """Keep an image, if it is drawn, new, and within the hour's limit.

        Args:
            data: The encoded file as it came; None for a decoded image, which is then stored as PNG.
            image: (H, W, 3) uint8 RGB, upright; kept for a while when `data` is None, so it must not be written to.
            prediction: The model's answer.
            group: What the caller says the image belongs to; images of one group stay in one split. Empty: its own.
            is_drifted: Drift is found at present.
            is_disputed: Another model answered otherwise.

        Returns:
            Why it was kept: `disagreement`, `drift`, `low_margin`, `near_threshold` or `ordinary`; None: it was not.
        """
        if self._thread is None:
            return None
        reason = self._reason(prediction, is_drifted=is_drifted, is_disputed=is_disputed)
        is_hard = reason != "ordinary"
        if self._draw() >= (self._config.hard_rate if is_hard else self._config.rate):
            return None
        now = self._clock()
        size = image.nbytes if data is None else len(data)
        with self._changed:
            if not self._has_room(now, size, is_hard=is_hard):
                return None
        # Hashing takes a tenth of a millisecond or more: not under the lock.
        sha256 = hashlib.sha256(image.tobytes() if data is None else data).hexdigest()
        looks = picture_hash(image)
        kept = KeptImage(
            data=image if data is None else data,
            sha256=sha256,
            group=group,
            time=datetime.fromtimestamp(now, UTC),
            reason=reason,
            prediction=prediction,
            width=image.shape[1],
            height=image.shape[0],
        )
        with self._changed:
            if self._is_known(sha256, looks, now) or not self._has_room(now, size, is_hard=is_hard):
                return None
            self._remember(sha256, looks, now)
            self._kept_at.append((now, is_hard))
            self._ordinary_count += not is_hard
            self._waiting.append(kept)
            self._waiting_bytes += size
            self.kept_count += 1
            self._changed.notify_all()
        return reason

    def close(self) -> None:
        """Write what waits, and stop. What the store does not take now is lost, and logged."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=_CLOSE_S)

    def _reason(self, prediction: Prediction, *, is_drifted: bool, is_disputed: bool) -> str:
        if is_disputed:
            return "disagreement"
        if is_drifted:
            return "drift"
        if isinstance(prediction, Classification) and len(prediction.probabilities) > 1:
            second, best = np.partition(prediction.probabilities, -2)[-2:]
            if best - second < LOW_MARGIN:
                return "low_margin"
        if isinstance(prediction, Detections):
            found = prediction.confidence[prediction.confidence >= self._threshold]
            near_count = int((found < self._threshold + NEAR_THRESHOLD).sum())
            if near_count and near_count >= NEAR_PART * len(found):
                return "near_threshold"
        return "ordinary"

    def _has_room(self, now: float, size: int, *, is_hard: bool) -> bool:
        while self._kept_at and self._kept_at[0][0] <= now - _HOUR_S:
            _, was_hard = self._kept_at.popleft()
            self._ordinary_count -= not was_hard
        limit = self._config.max_per_hour
        is_within = len(self._kept_at) < limit
        if not is_hard:
            is_within = is_within and self._ordinary_count < max(1, int(limit * _ORDINARY_PART))
        if is_within and not self._is_closed and self._waiting_bytes + size > _MAX_WAITING_BYTES:
            self.dropped_count += 1
            return False
        return is_within and not self._is_closed

    def _is_known(self, sha256: str, looks: int | None, now: float) -> bool:
        while self._hashes and self._hashes[0][0] <= now - _HOUR_S:
            self._hashes.popleft()
        if sha256 in self._digests:
            return True
        return looks is not None and any((looks ^ other).bit_count() <= _MAX_DISTANCE for _, other in self._hashes)

    def _remember(self, sha256: str, looks: int | None, now: float) -> None:
        self._digests[sha256] = None
        if len(self._digests) > _REMEMBERED_COUNT:
            self._digests.popitem(last=False)
        if looks is not None:
            self._hashes.append((now, looks))

    def _work(self) -> None:
        retry_s = _FIRST_RETRY_S
        while shard := self._next_shard():
            try:
                write_shard(self._config.uri, shard, model=self._model, digest=self._digest, classes=self._classes)
            except (StorageError, OSError) as error:
                self._note_failure(shard, error)
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed, retry_s)
                retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
            else:
                retry_s = _FIRST_RETRY_S
                with self._changed:
                    self.written_count += len(shard)

    def _next_shard(self) -> list[KeptImage]:
        """Wait for a shard's worth of images; return none when closed and all is written."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            self._changed.wait_for(self._is_shard_full, _SHARD_AGE_S)
            shard: list[KeptImage] = []
            while self._waiting and len(shard) < _SHARD_COUNT:
                shard.append(self._waiting.popleft())
            self._waiting_bytes -= sum(kept.size for kept in shard)
            return shard

    def _is_shard_full(self) -> bool:
        return self._is_closed or len(self._waiting) >= _SHARD_COUNT or self._waiting_bytes >= _SHARD_BYTES

    def _note_failure(self, shard: list[KeptImage], error: Exception) -> None:
        with self._changed:
            self.failed_count += 1
            is_kept = not self._is_closed
            if is_kept:
                self._waiting.extendleft(reversed(shard))
                self._waiting_bytes += sum(kept.size for kept in shard)
            else:
                self.dropped_count += len(shard)
        outcome = "they wait for the next try" if is_kept else "they are lost"
        _log.warning("%d samples of %s were not stored (%s); %s", len(shard), self._model, error, outcome)
        if self._on_failure is not None:
            self._on_failure()


def picture_hash(image: np.ndarray) -> int | None:
    """Return the 64-bit difference hash of a picture: whether each of 8x8 cells is darker than its right one.

    Source: N. Krawetz, Kind of Like That, hackerfactor.com, 2013.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        None for a picture without structure.
    """
    height, width = image.shape[:2]
    step_y, step_x = max(1, height // _HASH_SIDE_PX), max(1, width // _HASH_SIDE_PX)
    grey = cv2.cvtColor(np.ascontiguousarray(image[::step_y, ::step_x]), cv2.COLOR_RGB2GRAY)
    cells = np.asarray(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA), dtype=np.int16)
    if cells.max() - cells.min() < _MIN_CONTRAST:
        return None
    return int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")
