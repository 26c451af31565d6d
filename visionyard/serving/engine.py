"""A served model: from encoded images to predictions, many requests at a time.

A thread of the shared pool decodes and preprocesses an image. On a CPU where an inference is free it runs the model
too, and postprocesses: the image is still in that core's cache, and no thread is woken. Otherwise an inference thread
does that with all that is queued, and only when more is queued does it leave the postprocessing to the pool. The
caller's event loop takes the answer. (mobilenet_v3 at 224 px, 16 clients, two cores: 154 images/s where an inference
thread ran everything 132, p99 136 ms instead of 215.)
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import numpy as np

from visionyard.config.serving_config import ServingConfig
from visionyard.errors import OverloadedError, RequestError, TooLargeError
from visionyard.inference.bundle import BundleManifest
from visionyard.inference.predictor import Predictor
from visionyard.monitoring.drift import DriftReport
from visionyard.monitoring.features import confidence_threshold_of
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.monitoring.watch import ModelWatch
from visionyard.serving.answers import DEFAULT_CONTEXT, ImageAnswer, RequestContext
from visionyard.serving.batching import BatchItem, DynamicBatcher
from visionyard.serving.cache import ResponseCache
from visionyard.serving.concurrency import ElasticBackend, settle_batch
from visionyard.serving.image_work import ImageWork, Prepared, Question, RunningBlocks
from visionyard.serving.inputs import ImageInput, check_tensor
from visionyard.serving.jobs import Request
from visionyard.serving.options import DEFAULT_OPTIONS, PredictOptions
from visionyard.serving.row_work import RowWork
from visionyard.transforms import Content, Placement, Prediction, PreprocessingSpec, Row

_log = logging.getLogger(__name__)

__all__ = ["ImageAnswer", "ImageInput", "RequestContext", "ServedModel"]


class ServedModel:
    """One model of the server; `ModelStore.load` makes it.

    Attributes:
        name: In the URLs.
        digest: SHA-256 of the bundle.
        format: Of the bundle's formats, the one that runs.
        reason: Why that one.
        device: Where it runs: `cpu`, `cuda` ...
        manifest: What the bundle says of itself.
        classes: Names in the order of their ids.
        is_ready: Only after a warm-up inference succeeded, and no more once it is closing.
    """

    def __init__(
        self,
        name: str,
        predictor: Predictor,
        *,
        manifest: BundleManifest,
        digest: str,
        format: str,  # noqa: A002
        reason: str,
        device: str,
        instances: int,
        config: ServingConfig,
        metrics: ServingMetrics,
        pool: Executor,
        cache: ResponseCache | None = None,
    ) -> None:
        """Start the model's inference threads.

        Args:
            name: In the URLs.
            predictor: The loaded model.
            manifest: Of its bundle.
            digest: Of its bundle.
            format: Which of the bundle's formats was loaded.
            reason: Why.
            device: Where it runs.
            instances: Inferences at the same time.
            config: Of the server.
            metrics: Where figures go.
            pool: Threads that decode, shared by all models.
            cache: Answers given before, shared by all models.
        """
        self.name = name
        self.digest = digest
        self.format = format
        self.reason = reason
        self.device = device
        self.manifest = manifest
        self.classes = list(manifest.classes)
        self.is_ready = False
        self._predictor = predictor
        self._limits = config.limits
        self._grace_s = config.server.grace_s
        self._metrics = metrics
        self._pool = pool
        self._watch = ModelWatch(manifest, config, name=name, digest=digest, metrics=metrics)
        is_watched = config.drift.enabled or bool(config.sampling.uri)
        self._work = ImageWork(
            name,
            digest,
            predictor,
            limits=config.limits,
            metrics=metrics,
            cache=cache,
            watch=self._watch if is_watched else None,
        )
        self._noting = RunningBlocks()
        before = manifest.preprocessing
        if isinstance(before, PreprocessingSpec):
            self._rows: RowWork | None = None
            max_size = settle_batch(config.batching.max_size, device=device, size_hw=before.size_hw)
            queue_size = config.batching.queue_size
        else:
            # A row is a few numbers: a whole request of them goes together, and as many requests wait as of images.
            self._rows = RowWork(name, predictor, metrics)
            max_size = config.limits.max_rows
            queue_size = max_size * (config.batching.queue_size // config.limits.max_images)
        # A model exported with a fixed number of rows runs no more at once; its backend pads.
        fixed_count = manifest.input.shape[0]
        self._max_size = min(max_size, fixed_count) if fixed_count > 0 else max_size
        self._batch_size = metrics.batch_size.labels(name)
        # On a GPU the thread would wait where it could decode; with a delay it would have no company.
        self._is_run_where_prepared = device == "cpu" and not config.batching.max_delay_ms
        self._batcher = DynamicBatcher(
            predictor.backend.run_all,
            name=name,
            instances=instances,
            max_size=self._max_size,
            max_delay_s=config.batching.max_delay_ms / 1000,
            queue_size=queue_size,
            on_batch=self._note_batch,
            item=before.item,
        )
        if isinstance(predictor.backend, ElasticBackend):
            predictor.backend.in_work = lambda: self._batcher.admitted_count
        metrics.in_flight.labels(name).set_function(lambda: self._batcher.admitted_count)
        metrics.queue_depth.labels(name).set_function(lambda: self._batcher.queued_count)

    async def warm_up(self) -> None:
        """Run a grey image, or an empty row, through inference and postprocessing, and be ready when that succeeded.

        Raises:
            VisionyardError: The model cannot answer.
        """
        before = self.manifest.preprocessing
        # Not by `predict`: no one sent this image, so those who watch the pictures must not see it.
        neutral: Content = before.neutral()
        rows, placements = before.apply_all([neutral])
        outputs = await self.infer(rows, deadline=math.inf)
        self._predictor.check(outputs, 1)
        self._predictor.interpret(outputs, placements)
        self.is_ready = True

    async def predict(
        self,
        images: Sequence[ImageInput],
        *,
        options: PredictOptions = DEFAULT_OPTIONS,
        deadline: float | None = None,
        keep_images: bool = False,
        context: RequestContext = DEFAULT_CONTEXT,
    ) -> list[ImageAnswer]:
        """Look at images.

        Args:
            images: Encoded files or (H, W, 3) uint8 RGB, at most limits.max_images.
            options: Parameters of the request.
            deadline: On the clock of `time.monotonic`; None: limits.deadline_s from now.
            keep_images: Return the decoded images too.
            context: Whose request it is.

        Returns:
            One answer an image, in order.

        Raises:
            RequestError: No image, or one that cannot be read.
            TooLargeError: Too many images, or one with too many pixels.
            OverloadedError: Too much is in work already; nothing was decoded.
            DeadlineError: The answer was not ready in time.
            VisionyardError: The model failed.
        """
        if not images:
            raise RequestError("the request holds no image; send at least one")
        if len(images) > self._limits.max_images:
            raise TooLargeError(f"the request holds {len(images)} images; at most {self._limits.max_images} are taken")
        request: Request[ImageAnswer] = self._admitted([1] * len(images), deadline)
        for index, given in enumerate(images):
            question = Question(index, given, options, context, keep_images)
            self._start(request, index, partial(self._prepare_image, request, question))
        return await request.answers()

    async def predict_rows(self, rows: Sequence[Row], *, deadline: float | None = None) -> list[Prediction]:
        """Look at rows of a table; they share inferences with those of other requests.

        Args:
            rows: At most limits.max_rows, each with a value or None for every column.
            deadline: As in `predict`.

        Returns:
            One prediction a row, in order.

        Raises:
            RequestError: No row, or one that does not fit the table; names row, column and value.
            TooLargeError: Too many rows.
            OverloadedError: Too much is in work already; nothing was looked at.
            DeadlineError: The answer was not ready in time.
            VisionyardError: The model failed.
        """
        if not rows:
            raise RequestError("the request holds no row; send at least one")
        if len(rows) > self._limits.max_rows:
            raise TooLargeError(f"the request holds {len(rows)} rows; at most {self._limits.max_rows} are taken")
        request: Request[list[Prediction]] = self._admitted([len(rows)], deadline)
        self._start(request, 0, partial(self._prepare_table, request, rows))
        (found,) = await request.answers()
        return found

    async def infer(self, batch: np.ndarray, *, deadline: float | None = None) -> list[np.ndarray]:
        """Run a preprocessed batch; it shares inferences with images and other batches.

        Args:
            batch: (N, 3, H, W) float32, as the manifest's input; at most limits.max_images rows.
            deadline: As in `predict`.

        Returns:
            The raw outputs, N rows each, in the manifest's order.

        Raises:
            RequestError: The batch does not fit the model's input, or holds NaN.
            TooLargeError: Too many rows.
            OverloadedError: Too much is in work already.
            DeadlineError: The answer was not ready in time.
            VisionyardError: The model failed.
        """
        shape = self.manifest.input.shape
        if batch.ndim != len(shape) or not len(batch):
            check_tensor(batch, shape)
        if len(batch) > self._limits.max_images:
            raise TooLargeError(f"the batch holds {len(batch)} rows; at most {self._limits.max_images} are taken")
        pieces = [batch[start : start + self._max_size] for start in range(0, len(batch), self._max_size)]
        request: Request[list[np.ndarray]] = self._admitted([len(piece) for piece in pieces], deadline)
        for index, piece in enumerate(pieces):
            self._start(request, index, partial(self._prepare_rows, request, index, piece))
        parts = await request.answers()
        return parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    async def close(self) -> None:
        """Refuse new work, finish what is in flight within server.grace_s, give the model's memory back."""
        self.is_ready = False
        loop = asyncio.get_running_loop()
        is_finished = await loop.run_in_executor(None, partial(self._batcher.close, timeout_s=self._grace_s))
        # The last answers are out, but may not have been noted yet.
        await loop.run_in_executor(None, partial(self._noting.wait, self._grace_s))
        await loop.run_in_executor(None, self._watch.close)
        if is_finished:
            self._predictor.close()
        else:
            _log.warning("model %s: an inference did not end within %g s; it is left behind", self.name, self._grace_s)

    @property
    def takes_rows(self) -> bool:
        """Whether it looks at rows of a table, not at images."""
        return self._rows is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in work."""
        return self._batcher.admitted_count == 0

    @property
    def confidence_threshold(self) -> float:
        """Confidence from which the bundle tells a box, in [0, 1]."""
        return confidence_threshold_of(self.manifest.postprocessing)

    def note_dispute(self, data: bytes | None, image: np.ndarray, prediction: Prediction, *, group: str) -> None:
        """Let sampling know that another model answered otherwise; arguments as in `ModelWatch.dispute`."""
        self._watch.dispute(data, image, prediction, group=group)

    def drift_report(self) -> DriftReport | None:
        """Return how the pictures compare with the bundle's reference, None when drift is not watched."""
        return self._watch.report()

    def _admitted(self, weights: list[int], deadline: float | None) -> Request[Any]:
        latest = time.monotonic() + self._limits.deadline_s
        self._batcher.admit(sum(weights))
        return Request(weights, latest if deadline is None else deadline, on_end=self._batcher.release)

    def _start(self, request: Request[Any], index: int, work: Callable[[], None]) -> None:
        try:
            self._pool.submit(work)
        except RuntimeError as error:  # the pool is shut down
            request.fail(index, error)

    def _prepare_image(self, request: Request[ImageAnswer], question: Question) -> None:
        index = question.index
        if not request.is_wanted:
            request.drop(index)
            return
        try:
            prepared = self._work.prepare(question)
        except Exception as error:  # whatever it is, the caller has to learn of it
            request.fail(index, error)
            return
        if isinstance(prepared, ImageAnswer):
            request.answer(index, prepared)
        else:
            self._queue(request, index, prepared.rows, partial(self._conclude, request, prepared))

    def _conclude(self, request: Request[ImageAnswer], prepared: Prepared, outputs: list[np.ndarray]) -> None:
        answer = self._work.answer(prepared, outputs)
        with self._noting:  # with the last answer nothing is in work any more, and `close` goes on
            request.answer(prepared.question.index, answer)
            self._work.remember(prepared, answer)

    def _prepare_table(self, request: Request[list[Prediction]], rows: Sequence[Row]) -> None:
        if not request.is_wanted:
            request.drop(0)
            return
        assert self._rows is not None  # the callers have asked `takes_rows`
        try:
            batch, placements = self._rows.prepare(rows)
        except Exception as error:  # whatever it is, the caller has to learn of it
            request.fail(0, error)
            return
        self._queue(request, 0, batch, partial(self._conclude_table, request, placements))

    def _conclude_table(
        self, request: Request[list[Prediction]], placements: list[Placement], outputs: list[np.ndarray]
    ) -> None:
        assert self._rows is not None
        request.answer(0, self._rows.answer(outputs, placements))

    def _prepare_rows(self, request: Request[list[np.ndarray]], index: int, rows: np.ndarray) -> None:
        if not request.is_wanted:
            request.drop(index)
            return
        try:
            rows = check_tensor(rows, self.manifest.input.shape)
        except Exception as error:  # whatever it is, the caller has to learn of it
            request.fail(index, error)
            return
        self._queue(request, index, rows, partial(request.answer, index))

    def _queue(
        self,
        request: Request[Any],
        index: int,
        rows: np.ndarray,
        take: Callable[[list[np.ndarray]], None],
    ) -> None:
        item = BatchItem(rows, request.deadline, on_run=self._work.note_inference)
        thread = threading.get_ident()

        def settle(outputs: Future[list[np.ndarray]]) -> None:
            if outputs.cancelled():
                request.drop(index)
            elif error := outputs.exception():
                request.fail(index, error)
            else:
                finish = partial(self._finish, request, index, take, outputs.result())
                # To an inference thread the next inference is worth more than the hop to another thread.
                if self._batcher.queued_count and threading.get_ident() != thread:
                    self._start(request, index, finish)
                else:
                    finish()

        item.outputs.add_done_callback(settle)
        request.attach(item)
        try:
            self._batcher.submit(item, here=self._is_run_where_prepared)
        except OverloadedError as error:
            item.outputs.set_exception(error)

    def _finish(
        self, request: Request[Any], index: int, take: Callable[[list[np.ndarray]], None], outputs: list[np.ndarray]
    ) -> None:
        try:
            take(outputs)
        except Exception as error:  # whatever it is, the caller has to learn of it
            request.fail(index, error)

    def _note_batch(self, size: int, _depth: int) -> None:
        self._batch_size.observe(size)
