"""How far a value lies from the usual ones, when some of those are wrong themselves."""

import numpy as np

# Beyond this a value is an outlier, as Iglewicz and Hoaglin recommend.
OUTLIER_Z = 3.5
# Fewer values do not tell what is usual.
MIN_COUNT = 20
_MAD_TO_SIGMA = 1.4826
_MEAN_DEVIATION_TO_SIGMA = 1.2533


def robust_z(values: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return the modified z-score of values: their distance from the median in units of the scaled median deviation.

    Where more than half of the usual values are equal the mean deviation stands in; where all are, every score is 0,
    since nothing says how much they vary.

    Args:
        values: (N,) float.
        usual: (M,) float, what is compared with; fewer than `MIN_COUNT` give scores of 0.

    Returns:
        (N,) float64.

    Source: B. Iglewicz, D. Hoaglin, How to Detect and Handle Outliers, ASQC Quality Press 1993.
    """
    if len(usual) < MIN_COUNT:
        return np.zeros(len(values))
    median = np.median(usual)
    deviations = np.abs(usual - median)
    scale = _MAD_TO_SIGMA * np.median(deviations) or _MEAN_DEVIATION_TO_SIGMA * deviations.mean()
    return np.zeros(len(values)) if scale == 0 else (values - median) / scale
