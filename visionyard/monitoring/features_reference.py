"""From measured pictures to the reference that later ones are tested against, at export and while serving alike.

Frames of one clip, or of one camera within seconds, resemble each other and tell less than as many unrelated pictures.
How much less is measured: `correlation_time` is the number of successive pictures that count as one.

Sources: initial positive sequence: C. Geyer, Practical Markov Chain Monte Carlo, Statistical Science 7, 1992, section
3.3; shrinking of the covariance: O. Ledoit, M. Wolf, A well-conditioned estimator for large-dimensional covariance
matrices, Journal of Multivariate Analysis 88, 2004.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from visionyard.inference.reference import EmbeddingReference, FeatureReference
from visionyard.monitoring.features import (
    DESCRIPTOR_SIZE,
    DIGITS,
    EMBEDDING_FEATURE,
    PICTURE_FEATURES,
    PREDICTION_FEATURES,
    PictureFeatures,
    PredictionFeatures,
)

# Thirty-two parts of equal probability between the edges.
_EDGE_COUNT = 33
# A class is counted per image, mostly 0 or 1: few edges say it all.
_CLASS_EDGE_COUNT = 5
# Classes that are tested each on their own, the most frequent ones; the others count together.
MAX_CLASSES = 64
OTHER_CLASSES = ""
# Parts the reference is divided into, so that no picture is measured by a mean that it belongs to.
_FOLD_COUNT = 32
# The same where only the order of arrival is known: longer, so that few pictures have relatives in the next part.
_STRETCH_COUNT = 8
# Added to the variances, far below those of any two different pictures: keeps a constant picture invertible.
_RIDGE = 1e-6
_SIGNIFICANT = 8


class Embedding:
    """Distance of a picture's descriptor from those of the reference."""

    def __init__(self, reference: EmbeddingReference) -> None:
        """Prepare the distance; a reference of another descriptor has other sizes and gives None at `distance`."""
        self._mean = np.array(reference.mean)
        covariance = np.zeros((len(self._mean), len(self._mean)))
        covariance[np.tril_indices(len(self._mean))] = reference.covariance
        covariance += np.tril(covariance, -1).T
        values, vectors = np.linalg.eigh(covariance)
        # The shortened numbers of the bundle may leave an eigenvalue just below 0.
        self._whitening = (vectors / np.sqrt(np.maximum(values, _RIDGE))).T

    def distance(self, descriptor: np.ndarray) -> float:
        """Return the Mahalanobis distance of a (32,) descriptor, NaN where the reference is of another descriptor."""
        if descriptor.shape != self._mean.shape:
            return float("nan")
        return round(float(np.linalg.norm(self._whitening @ (descriptor - self._mean))), DIGITS)


def correlation_time(values: np.ndarray) -> np.ndarray:
    """Return for each column how many successive rows tell as much as one independent row.

    1 for unrelated rows and for a constant column; never below, so the estimate errs on the careful side.

    Args:
        values: (N, K) float in the order of time; NaN where there is none.

    Returns:
        (K,) float64 in [1, N].
    """
    return _correlation_times(_autocovariances(values), len(values))


def joint_correlation_time(values: np.ndarray) -> float:
    """Return the same of all columns together, as of one vector a row: 1 to N."""
    return float(_correlation_times(_autocovariances(values).sum(axis=1, keepdims=True), len(values))[0])


def _autocovariances(values: np.ndarray) -> np.ndarray:
    count = len(values)
    is_there = np.isfinite(values)
    filled = np.where(is_there, values, 0.0)
    means = filled.sum(axis=0) / np.maximum(is_there.sum(axis=0), 1)
    centred = np.where(is_there, filled - means, 0.0)
    spectrum = np.fft.rfft(centred, n=2 * count, axis=0)
    return np.asarray(np.fft.irfft(spectrum * spectrum.conj(), n=2 * count, axis=0)[:count])


def _correlation_times(covariances: np.ndarray, count: int) -> np.ndarray:
    if count < 4:
        return np.ones(covariances.shape[1])
    variances = covariances[0]
    is_varying = variances > 1e-12
    correlations = covariances[: count // 2 * 2] / np.where(is_varying, variances, 1.0)
    pairs = correlations[0::2] + correlations[1::2]
    is_kept = np.logical_and.accumulate(pairs > 0, axis=0)
    times = 2 * np.where(is_kept, pairs, 0.0).sum(axis=0) - 1
    return np.asarray(np.where(is_varying, np.clip(times, 1.0, count), 1.0))


def group_order(groups: Sequence[str]) -> np.ndarray | None:
    """Return an order that brings pictures of one group together; None when no group has two.

    Groups follow each other in the order of their names' hashes, so that a listing sorted by class makes no neighbours.
    """
    if len(set(groups)) == len(groups):
        return None
    return np.array(sorted(range(len(groups)), key=lambda at: (hashlib.sha256(groups[at].encode()).digest(), at)))


def feature_reference(
    values: np.ndarray, order: np.ndarray | None, *, edge_count: int = _EDGE_COUNT
) -> FeatureReference | None:
    """Describe one feature of the reference pictures.

    Args:
        values: (N,) float; NaN where a picture has none.
        order: (N,) indices in which neighbours may be related; None when the pictures are unrelated.
        edge_count: Most edges kept, at least 2.

    Returns:
        None when no picture has the feature.
    """
    present = values[np.isfinite(values)]
    if not present.size:
        return None
    time = 1.0 if order is None else float(correlation_time(values[order][:, None])[0])
    # Edges are values of the reference itself, not between two of them: the test's probabilities are exact only so.
    edges = np.unique(np.quantile(present, np.linspace(0, 1, edge_count), method="inverted_cdf"))
    ordered = np.sort(present)
    below, up_to = (np.searchsorted(ordered, edges, side=side) / present.size for side in ("left", "right"))
    return FeatureReference(
        count=present.size,
        effective_count=round(max(1.0, present.size / time), DIGITS),
        mean=round(float(present.mean()), DIGITS),
        std=round(float(present.std()), DIGITS),
        edges=edges.tolist(),
        below=[round(float(share), _SIGNIFICANT) for share in below],
        up_to=[round(float(share), _SIGNIFICANT) for share in up_to],
    )


def picture_references(
    pictures: Sequence[PictureFeatures], order: np.ndarray | None, *, groups: Sequence[str] = ()
) -> tuple[dict[str, FeatureReference], EmbeddingReference | None]:
    """Describe the reference pictures by `PICTURE_FEATURES` and their distance from each other.

    Args:
        pictures: At least one.
        order: As in `feature_reference`.
        groups: Of the pictures, where known: a picture's distance is then taken from other groups' mean.
    """
    values = np.stack([picture.values for picture in pictures])
    columns = dict(zip(PICTURE_FEATURES, values.T, strict=True))
    embedding = None
    if len(pictures) > 1:
        descriptors = np.stack([picture.descriptor for picture in pictures])
        embedding = _embedding_reference(descriptors)
        columns[EMBEDDING_FEATURE] = _held_out_distances(descriptors, _folds(len(pictures), order, groups))
    found = {name: feature_reference(column, order) for name, column in columns.items()}
    return {name: reference for name, reference in found.items() if reference}, embedding


def prediction_references(
    answers: Sequence[PredictionFeatures], classes: Sequence[str], order: np.ndarray | None
) -> tuple[dict[str, FeatureReference], dict[str, FeatureReference]]:
    """Describe the answers to the reference pictures by `PREDICTION_FEATURES` and by objects of each class.

    Args:
        answers: At least one.
        classes: Names in the order of their ids.
        order: As in `feature_reference`.
    """
    values = np.stack([answer.values for answer in answers])
    found = {name: feature_reference(column, order) for name, column in zip(PREDICTION_FEATURES, values.T, strict=True)}
    counts = np.stack([np.bincount(answer.class_ids, minlength=len(classes))[: len(classes)] for answer in answers])
    kept = np.sort(np.argsort(-counts.sum(axis=0), kind="stable")[:MAX_CLASSES])
    columns = {classes[class_id]: counts[:, class_id] for class_id in kept}
    if len(kept) < len(classes):
        columns[OTHER_CLASSES] = counts.sum(axis=1) - counts[:, kept].sum(axis=1)
    mixes = {
        name: feature_reference(column.astype(np.float64), order, edge_count=_CLASS_EDGE_COUNT)
        for name, column in columns.items()
    }
    return (
        {name: reference for name, reference in found.items() if reference},
        {name: reference for name, reference in mixes.items() if reference},
    )


def _folds(count: int, order: np.ndarray | None, groups: Sequence[str]) -> list[np.ndarray]:
    """Divide pictures into parts that are unrelated: whole groups, or else stretches of neighbours."""
    if order is None:
        return np.array_split(np.arange(count), min(_FOLD_COUNT, count))
    names = sorted(set(groups))
    if len(names) < 2:
        return np.array_split(order, min(_STRETCH_COUNT, count))
    members = [np.flatnonzero(np.array(groups) == name) for name in names]
    dealt = [members[start :: min(_FOLD_COUNT, len(names))] for start in range(min(_FOLD_COUNT, len(names)))]
    return [np.concatenate(parts) for parts in dealt]


def _held_out_distances(descriptors: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """Return each picture's distance from a mean and covariance of pictures of other folds.

    Distances from a mean that includes the picture, or others of its clip, are too small, and every later picture would
    seem far away.
    """
    distances = np.empty(len(descriptors))
    for fold in folds:
        embedding = Embedding(_embedding_reference(np.delete(descriptors, fold, axis=0)))
        distances[fold] = [embedding.distance(descriptor) for descriptor in descriptors[fold]]
    return distances


def _embedding_reference(descriptors: np.ndarray) -> EmbeddingReference:
    covariance = _shrunk_covariance(descriptors)[np.tril_indices(DESCRIPTOR_SIZE)]
    return EmbeddingReference(
        count=max(2, len(descriptors)),
        mean=[round(float(value), _SIGNIFICANT) for value in descriptors.mean(axis=0)],
        covariance=[round(float(value), _SIGNIFICANT) for value in covariance],
    )


def _shrunk_covariance(rows: np.ndarray) -> np.ndarray:
    """Return the covariance of (N, D) rows, drawn towards a multiple of the identity as far as N is small."""
    count, size = rows.shape
    centred = rows - rows.mean(axis=0)
    sample = centred.T @ centred / count
    level = np.trace(sample) / size
    target = level * np.eye(size)
    spread = np.sum((sample - target) ** 2) / size
    noise = (np.mean(np.sum(centred**2, axis=1) ** 2) - np.sum(sample**2)) / (count * size)
    weight = 1.0 if spread <= 0 else float(np.clip(noise / spread, 0.0, 1.0))
    return np.asarray(weight * target + (1 - weight) * sample + _RIDGE * np.eye(size))
