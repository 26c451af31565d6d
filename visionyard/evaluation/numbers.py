"""What metrics are computed from must be numbers: one NaN sorts anywhere and makes every comparison false, silently."""

import numpy as np

from visionyard.errors import NotANumberError


def require_finite(what: str, values: np.ndarray) -> None:
    """Refuse NaN and infinity.

    Args:
        what: What the values are, for the message: `image 3: confidence`.
        values: Any shape, float or integer.

    Raises:
        NotANumberError: A value is NaN or infinite; names `what`, the value and its position.
    """
    is_bad = ~np.isfinite(values)
    if is_bad.any():
        position = tuple(int(index) for index in np.argwhere(is_bad)[0])
        raise NotANumberError(
            f"{what}: expected finite numbers, got {values[position]} at {position}; the model diverged: train with a "
            "lower training.learning_rate or mixed_precision: no"
        )
