"""How alike the answers of an exported model and of the trained one have to be: exact formats, and lossy ones."""

from dataclasses import dataclass

# Half precision rounds to one part in 2,000. On a detector of a hundred layers scores moved by 0.0014 and boxes by
# 0.2 % of the input at most; ten and five times that may be rounding still, more is an overflow or a wrong conversion.
FP16_SCORE = 0.02
FP16_BOX = 0.01


@dataclass(frozen=True)
class Tolerances:
    """How alike is alike.

    Attributes:
        score: Largest difference of a class score, in [0, 1].
        metric: Largest difference of the main metric, in [0, 1].
        int8_metric: The same for eight bits, which are quicker at a price.
    """

    score: float
    metric: float
    int8_metric: float = 0.01

    def lossy(self, name: str) -> "Lossy | None":
        """Return what a lossy format is held to; None for one that promises to be exact."""
        if name == "onnx-fp16":
            return Lossy(score=FP16_SCORE, box=FP16_BOX, metric=self.metric)
        return Lossy(score=None, box=None, metric=self.int8_metric) if name == "onnx-int8" else None


@dataclass(frozen=True)
class Lossy:
    """What a format is held to that gives up exactness for speed.

    Attributes:
        score: Largest difference of a class score; None: compared and written down, not judged.
        box: Largest difference of a side of the most confident raw boxes, as a share of the input's longer side; None
            as above.
        metric: Largest difference of the main metric.
    """

    score: float | None
    box: float | None
    metric: float
