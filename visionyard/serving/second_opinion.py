"""Some images that one arm of an A/B split answered are shown to another: where they disagree, someone should look.

The caller does not wait for it, and a model that is busy is not asked: a second opinion takes what is left over.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from visionyard.config.serving_config import ServingConfig
from visionyard.errors import NotFoundError, VisionyardError
from visionyard.monitoring.disagreement import disagree
from visionyard.serving.answers import ImageAnswer, RequestContext
from visionyard.serving.engine import ServedModel
from visionyard.serving.inputs import ImageInput
from visionyard.serving.store import ModelStore

_log = logging.getLogger(__name__)


class SecondOpinion:
    """Asks another arm, now and then."""

    def __init__(self, store: ModelStore, config: ServingConfig, *, draw: Callable[[], float] = random.random) -> None:
        """Put the parts together.

        Args:
            store: The models.
            config: Its `arms` and `sampling`.
            draw: Returns a number in [0, 1).
        """
        self._store = store
        self._arms = sorted(config.arms.weights) if config.arms.name else []
        self._rate = config.sampling.second_opinion_rate if config.sampling.uri else 0.0
        self._draw = draw
        # The event loop itself keeps no hold of its tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def consider(
        self, model: ServedModel, images: Sequence[ImageInput], answers: Sequence[ImageAnswer], context: RequestContext
    ) -> None:
        """Ask another arm about images that were answered, if they are drawn and it has nothing else to do.

        Args:
            model: The arm that answered, with its own thresholds.
            images: As they came.
            answers: Its answers.
            context: Whose request it was.
        """
        if model.name not in self._arms or self._draw() >= self._rate:
            return
        other = self._other(model.name)
        if other is not None and other.is_ready and other.is_idle:
            task = asyncio.get_running_loop().create_task(self._ask(model, other, images, answers, context))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _other(self, name: str) -> ServedModel | None:
        others = [arm for arm in self._arms if arm != name]
        try:
            return self._store.get(others[int(self._draw() * len(others))]) if others else None
        except NotFoundError:
            return None

    async def _ask(
        self,
        model: ServedModel,
        other: ServedModel,
        images: Sequence[ImageInput],
        answers: Sequence[ImageAnswer],
        context: RequestContext,
    ) -> None:
        # The other arm must neither count these pictures towards its drift nor sample them by itself.
        unwatched = replace(context, is_watched=False)
        try:
            opinions = await other.predict(images, keep_images=True, context=unwatched)
        except VisionyardError as error:
            _log.info("model %s: no second opinion of %s: %s", model.name, other.name, error)
            return
        for given, answer, opinion in zip(images, answers, opinions, strict=True):
            if opinion.image is not None and disagree(
                answer.prediction,
                opinion.prediction,
                first_classes=model.classes,
                second_classes=other.classes,
                first_threshold=model.confidence_threshold,
                second_threshold=other.confidence_threshold,
            ):
                data = None if isinstance(given, np.ndarray) else bytes(given)
                model.note_dispute(data, opinion.image, answer.prediction, group=context.group)
