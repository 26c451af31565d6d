"""What a request may ask of a prediction, checked against the limits of the server."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import get_args

from visionyard.config.serving_config import LimitsConfig
from visionyard.errors import RequestError
from visionyard.inference.paths import MaskForm


@dataclass(frozen=True)
class PredictOptions:
    """The parameters of a request; None takes the bundle's own.

    Attributes:
        confidence: Lowest confidence of a detection, in [limits.min_confidence, 1].
        iou: Overlap above which the less confident of two boxes is dropped, in (0, 1].
        max_detections: Most boxes of an image, 1 to limits.max_detections.
        top_k: Classes listed of a classification, 1 to limits.max_top_k; five when None.
        masks: How masks are written, for models that give some: `rle` (when None), `polygons`, `none`.
    """

    confidence: float | None = None
    iou: float | None = None
    max_detections: int | None = None
    top_k: int | None = None
    masks: MaskForm | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, object], limits: LimitsConfig) -> "PredictOptions":
        """Check what a caller sent.

        Args:
            values: Names to values, numbers also as their text in a query string; None and empty text count as not
                given.
            limits: Within these.

        Raises:
            RequestError: A name is unknown, or a value is of another kind or outside its range; names all of them.
        """
        ranges: dict[str, tuple[float, float, bool]] = {
            "confidence": (limits.min_confidence, 1.0, True),
            "iou": (0.0, 1.0, False),
            "max_detections": (1, limits.max_detections, True),
            "top_k": (1, limits.max_top_k, True),
        }
        problems: list[str] = []
        taken: dict[str, object] = {}
        for name, value in values.items():
            if name == "masks" and value in (*get_args(MaskForm), None, ""):
                taken[name] = value or None
            elif name == "masks":
                problems.append(f"parameter masks = {_shown(value)}: expected one of {', '.join(get_args(MaskForm))}")
            elif name not in ranges:
                problems.append(f"parameter {_shown(name)}: unknown; known: {', '.join(cls.names())}")
            elif value is not None and value != "":
                number = _number(value, is_whole=name in {"max_detections", "top_k"})
                low, high, is_low_allowed = ranges[name]
                if number is None or not low <= number <= high or (number == low and not is_low_allowed):
                    kind = "a whole number" if name in {"max_detections", "top_k"} else "a number"
                    span = f"from {low:g} to {high:g}" if is_low_allowed else f"above {low:g}, at most {high:g}"
                    problems.append(f"parameter {name} = {_shown(value)}: expected {kind} {span}")
                else:
                    taken[name] = number
        if problems:
            raise RequestError("; ".join(problems))
        return cls(**taken)  # type: ignore[arg-type]

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all parameters."""
        return tuple(field.name for field in fields(cls))


DEFAULT_OPTIONS = PredictOptions()


def _number(value: object, *, is_whole: bool) -> float | int | None:
    """Return the number that a value is or spells, None when it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) > 40:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if is_whole:
        return int(number) if number.is_integer() else None
    return number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
