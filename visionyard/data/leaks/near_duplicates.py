"""Near-duplicates over a whole set of images: candidates by hashes, confirmed by a second measure."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from visionyard import events
from visionyard.data.leaks.candidates import WINDOW, candidate_pairs
from visionyard.data.leaks.confirmation import MIN_SCORE, confirm
from visionyard.data.leaks.sketches import Sketches
from visionyard.data.threads import in_threads


@dataclass(frozen=True)
class NearDuplicates:
    """Confirmed pairs of images that show the same.

    Attributes:
        pairs: (K, 2) int64 positions, the smaller first, sorted, each pair once.
        scores: (K,) float64, share of their blocks that agree.
        candidate_count: Pairs that the hashes proposed and the second measure looked at.
        is_complete: False when so many images look alike that only neighbours among them were compared.
    """

    pairs: np.ndarray
    scores: np.ndarray
    candidate_count: int
    is_complete: bool = True

    def reordered(self, order: Sequence[int]) -> "NearDuplicates":
        """Return the same pairs where position `order[i]` has become `i`."""
        place = np.empty(len(order), dtype=np.int64)
        place[np.asarray(order, dtype=np.int64)] = np.arange(len(order))
        pairs = np.sort(place[self.pairs], axis=1)
        rank = np.lexsort(pairs.T[::-1])
        return replace(self, pairs=pairs[rank], scores=self.scores[rank])


def find_near_duplicates(sketches: Sketches, labels: np.ndarray | None = None) -> NearDuplicates:
    """Find pairs of images that show the same: copies, crops, flips, neighbouring frames.

    Args:
        sketches: Of all images.
        labels: (N,) int; images that share a label are not compared, such as frames of one clip. None compares all.
    """
    candidates, is_cut = candidate_pairs(sketches, labels)

    def measure(candidate: np.ndarray) -> float:
        first, second, variant = candidate.tolist()
        return confirm(sketches, first, second, variant)

    scores = np.zeros(len(candidates))
    for done, score in enumerate(in_threads(measure, candidates), 1):
        scores[done - 1] = score
        events.progress(done, len(candidates), unit="pair", label="comparing")
    is_confirmed = scores >= MIN_SCORE
    # A pair may be confirmed plain and flipped; its best score counts.
    pairs, row_of = np.unique(candidates[is_confirmed, :2], axis=0, return_inverse=True)
    best = np.zeros(len(pairs))
    np.maximum.at(best, row_of.ravel(), scores[is_confirmed])
    _, counts = np.unique(pairs, return_counts=True)
    is_complete = not is_cut and (not counts.size or int(counts.max()) < 2 * WINDOW)
    return NearDuplicates(pairs.reshape(-1, 2), best, len(candidates), is_complete)


def without_other_labels(duplicates: NearDuplicates, labels: Sequence[Hashable]) -> tuple[NearDuplicates, int]:
    """Leave out pairs whose images are of different classes, such as frames of one fixed camera.

    What tells them apart is then what is to be learnt, and to remember the one misleads about the other.

    Args:
        duplicates: Pairs of positions in `labels`.
        labels: The class of each image.

    Returns:
        The others, and how many were left out.
    """
    is_kept = np.array([labels[first] == labels[second] for first, second in duplicates.pairs.tolist()], dtype=bool)
    kept = replace(duplicates, pairs=duplicates.pairs[is_kept], scores=duplicates.scores[is_kept])
    return kept, int((~is_kept).sum())
