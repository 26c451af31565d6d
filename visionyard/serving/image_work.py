"""The work on one image of a request, whichever thread does it: from file to model input, from output to answer."""

import logging
import threading
import time
import weakref
from dataclasses import dataclass

import numpy as np

from visionyard.config.serving_config import LimitsConfig
from visionyard.inference.paths import TOP_COUNT
from visionyard.inference.predictor import Predictor
from visionyard.monitoring.metrics import PHASES, ServingMetrics
from visionyard.monitoring.watch import ModelWatch
from visionyard.serving.answers import ImageAnswer, RequestContext
from visionyard.serving.cache import CachedAnswer, ResponseCache
from visionyard.serving.inputs import ImageInput, read_image
from visionyard.serving.options import PredictOptions
from visionyard.transforms import Content, Placement

# Decoded pictures that wait for their answer because someone wants to see them, all of a model together.
_HELD_BYTES = 256 * 2**20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """One image and what is asked of it.

    Attributes:
        index: Its place in the request.
        given: As the caller sent it.
        options: Parameters of the request.
        context: Whose request it is.
        keep_image: Whether the answer is to hold the pixels.
    """

    index: int
    given: ImageInput
    options: PredictOptions
    context: RequestContext
    keep_image: bool


@dataclass(frozen=True)
class Prepared:
    """An image on its way to the model.

    Attributes:
        question: What it came from.
        rows: (1, 3, H, W) float32.
        placements: Where it lies in them.
        image: Its pixels, when someone wants to see them and there is room.
        key: Under which its answer is kept; None: it is not.
    """

    question: Question
    rows: np.ndarray
    placements: list[Placement]
    image: np.ndarray | None
    key: str | None


class ImageWork:
    """What happens to an image before and after the inference; its methods may run in any thread."""

    def __init__(
        self,
        name: str,
        digest: str,
        predictor: Predictor,
        *,
        limits: LimitsConfig,
        metrics: ServingMetrics,
        cache: ResponseCache | None,
        watch: ModelWatch | None,
    ) -> None:
        """Put the parts together.

        Args:
            name: Of the model.
            digest: Of its bundle.
            predictor: The loaded model.
            limits: Of the server.
            metrics: Where figures go.
            cache: Answers given before.
            watch: Who sees what was answered.
        """
        self._name = name
        self._digest = digest
        self._predictor = predictor
        self._limits = limits
        self._cache = cache
        self._watch = watch
        self._phases = {phase: metrics.phase_seconds.labels(name, phase) for phase in PHASES}
        self._lookups = {result: metrics.cache_lookups.labels(name, result) for result in ("hit", "miss")}
        self._pixels = PixelBudget(_HELD_BYTES)

    def prepare(self, question: Question) -> Prepared | ImageAnswer:
        """Decode and preprocess an image, unless its answer is known.

        Raises:
            RequestError: It cannot be read.
            TooLargeError: It has too many pixels.
        """
        key = self._key(question)
        if key is not None and (known := self._recall(key, question.options)):
            return known
        start = time.perf_counter()
        image = read_image(question.given, self._limits, index=question.index)
        decoded = time.perf_counter()
        rows, placements = self._predictor.preprocessing.apply_all(list[Content]([image]))
        self._phases["decode"].observe(decoded - start)
        self._phases["preprocess"].observe(time.perf_counter() - decoded)
        is_watched = self._watch is not None and question.context.is_watched
        is_held = (question.keep_image or is_watched) and self._pixels.take(image)
        return Prepared(question, rows, placements, image if is_held else None, key)

    def note_inference(self, waited_s: float, infer_s: float) -> None:
        """Note how long an image waited for its inference, and how long that took."""
        self._phases["queue"].observe(waited_s)
        self._phases["infer"].observe(infer_s)

    def answer(self, prepared: Prepared, outputs: list[np.ndarray]) -> ImageAnswer:
        """Turn the model's outputs for an image into its answer.

        Raises:
            ShapeError: The outputs do not fit the bundle's spec.
        """
        question = prepared.question
        options = question.options
        start = time.perf_counter()
        self._predictor.check(outputs, 1)
        (prediction,) = self._predictor.interpret(
            outputs,
            prepared.placements,
            confidence_threshold=options.confidence,
            iou_threshold=options.iou,
            max_detections=options.max_detections,
        )
        self._phases["postprocess"].observe(time.perf_counter() - start)
        image = prepared.image if question.keep_image else None
        if question.keep_image and image is None:
            # There was no room to keep it, so it is decoded once more.
            image = read_image(question.given, self._limits, index=question.index)
        width, height = prepared.placements[0].source_wh
        return ImageAnswer(width, height, prediction, image, _top_k(options), options.masks or "rle")

    def remember(self, prepared: Prepared, answer: ImageAnswer) -> None:
        """Let the cache and those who watch have an answer that was given; what fails here is only logged."""
        question = prepared.question
        options = question.options
        try:
            if self._cache is not None and prepared.key is not None:
                self._cache.put(prepared.key, CachedAnswer(answer.width, answer.height, answer.prediction))
            if self._watch is not None and question.context.is_watched and prepared.image is not None:
                own = (options.confidence, options.iou, options.max_detections)
                self._watch.note(
                    None if isinstance(question.given, np.ndarray) else bytes(question.given),
                    prepared.image,
                    answer.prediction,
                    group=question.context.group,
                    has_own_options=any(value is not None for value in own),
                )
        except Exception:  # the answer is out; an error here must neither undo it nor end the thread
            _log.exception("model %s: an answer could not be kept or watched", self._name)

    def _key(self, question: Question) -> str | None:
        if self._cache is None or question.keep_image or isinstance(question.given, np.ndarray):
            return None
        return self._cache.key(bytes(question.given), self._digest, question.options)

    def _recall(self, key: str, options: PredictOptions) -> ImageAnswer | None:
        found = None if self._cache is None else self._cache.get(key)
        self._lookups["miss" if found is None else "hit"].inc()
        if found is None:
            return None
        masks = options.masks or "rle"
        return ImageAnswer(found.width, found.height, found.prediction, None, _top_k(options), masks)


class PixelBudget:
    """Bounds the memory of decoded pictures that are kept while they wait: each counts as long as it exists.

    The pixels may be a hundred times the size of their file, so the bound on requests alone would not do.
    """

    def __init__(self, max_bytes: int) -> None:
        """Start with none.

        Args:
            max_bytes: Of all pictures together.
        """
        self._max_bytes = max_bytes
        self._used_bytes = 0
        # A picture may end inside `take` of the same thread.
        self._lock = threading.RLock()

    @property
    def used_bytes(self) -> int:
        """Bytes of the pictures that exist."""
        return self._used_bytes

    def take(self, image: np.ndarray) -> bool:
        """Count a picture in, and out once no one refers to it any more; return whether there was room."""
        with self._lock:
            if self._used_bytes + image.nbytes > self._max_bytes:
                return False
            self._used_bytes += image.nbytes
        weakref.finalize(image, self._give_back, image.nbytes).atexit = False
        return True

    def _give_back(self, count: int) -> None:
        with self._lock:
            self._used_bytes -= count


class RunningBlocks:
    """A context manager that any threads enter, and whose blocks can be waited for."""

    def __init__(self) -> None:
        """Start with none."""
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            if not self._count:
                self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until no block runs; return False when that takes longer than `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, timeout_s)


def _top_k(options: PredictOptions) -> int:
    return TOP_COUNT if options.top_k is None else options.top_k
