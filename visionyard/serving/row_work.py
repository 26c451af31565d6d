"""The work on rows of a request, whichever thread does it: from values to model input, from output to predictions."""

import time
from collections.abc import Sequence

import numpy as np

from visionyard.errors import DataError, RequestError
from visionyard.inference.predictor import Predictor
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.transforms import Content, Placement, Prediction, Row


class RowWork:
    """What happens to rows before and after the inference; its methods may run in any thread."""

    def __init__(self, name: str, predictor: Predictor, metrics: ServingMetrics) -> None:
        """Put the parts together.

        Args:
            name: Of the model.
            predictor: The loaded model.
            metrics: Where figures go.
        """
        self._predictor = predictor
        self._preprocess, self._postprocess = (
            metrics.phase_seconds.labels(name, phase) for phase in ("preprocess", "postprocess")
        )

    def prepare(self, rows: Sequence[Row]) -> tuple[np.ndarray, list[Placement]]:
        """Return the model's input for rows.

        Raises:
            RequestError: A row lacks a column, has one too many, or a value of another kind; names it.
        """
        start = time.perf_counter()
        try:
            prepared = self._predictor.preprocessing.apply_all(list[Content](rows))
        except DataError as error:
            raise RequestError(str(error)) from None
        self._preprocess.observe(time.perf_counter() - start)
        return prepared

    def answer(self, outputs: list[np.ndarray], placements: list[Placement]) -> list[Prediction]:
        """Turn the model's outputs for rows into their predictions.

        Raises:
            ShapeError: The outputs do not fit the bundle's spec.
        """
        start = time.perf_counter()
        self._predictor.check(outputs, len(placements))
        found = self._predictor.interpret(outputs, placements)
        self._postprocess.observe(time.perf_counter() - start)
        return found
