"""The second measure: whether two pictures, laid over each other, agree pixel for pixel.

The pictures are aligned (by the best small shift; where that is not enough, by the scales and shift of their matched
corners, then refined on the pixels) and compared block by block after mean, slope and contrast of each block are taken
out. The score is the share of blocks with structure that agree: brightness, compression and scale change no block, a
caption or a moving object some; of another scene few agree, by chance.

Source: normalised correlation: J. P. Lewis, Fast Normalized Cross-Correlation, 1995; the map of corners: M. Fischler,
R. Bolles, Random Sample Consensus, CACM 1981, here all samples of two; its refinement: G. Evangelidis, E. Psarakis,
Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization, PAMI 2008.
"""

import cv2
import numpy as np

from visionyard.data.leaks.sketches import THUMBNAIL_PX, Sketches, flipped

# Share of blocks that must agree; chosen between planted and unrelated pairs by benchmarks/leak_audit.py, and so that
# of 270 photographs before one board at most 1 % are taken for another.
MIN_SCORE = 0.4
# From here on an alignment is worth refining.
_MIN_REFINED = 0.1
_BLOCK_PX = 8
_BLOCKS_A_SIDE = THUMBNAIL_PX // _BLOCK_PX
# Orthonormal columns that span the mean and the slopes of a block, which are taken out: shading alone agrees in any two
# pictures with a bright side.
_SLOPES = np.linalg.qr(np.stack([np.ones(_BLOCK_PX**2), *np.indices((_BLOCK_PX, _BLOCK_PX)).reshape(2, -1)], axis=1))[
    0
].astype(np.float32)
# Correlation of a block from which it agrees.
_MIN_CORRELATION = 0.7
# The same for a smooth block: it has few shapes to be of, so that another picture's is often alike, where a copy's is
# the same. Of blobs as wide as a block 95 % are smoother than this, of the benchmark's pictures 15 %.
_MIN_SMOOTH_CORRELATION = 0.93
_SMOOTH = 0.25
# Grey levels of standard deviation, of what is left, from which a block has structure.
_MIN_DEVIATION = 2.5
# Fewer blocks with structure count as so many: an edge on a plain ground is no picture. Less than this share of the
# picture in common says nothing.
_MIN_BLOCKS = 14
_MIN_OVERLAP = 0.3
# Corners that differ in more bits are not matched; the map must leave them within so many pixels of 64.
_MAX_MATCH_BITS = 64
_MAX_ERROR_PX = 1.5
_MIN_MATCHES = 4
_MIN_APART_PX = 5
_SHIFT_PX = 6
# Sine of the angle, and scale, that a copy may be turned and scaled by beside what the variants stand for.
_MAX_TURN = 0.1
_MAX_SCALE = 1.8


def confirm(sketches: Sketches, first: int, second: int, variant: int) -> float:
    """Return how far two pictures agree, in [0, 1]; from `MIN_SCORE` on they are near-duplicates.

    Args:
        sketches: Of all images.
        first: One of them.
        second: Another.
        variant: As which variant the first is compared.
    """
    # One picture is laid over the other, always the same one: the score must not depend on the order of the files.
    if sketches.prints[first, 0].tobytes() > sketches.prints[second, 0].tobytes():
        first, second = second, first
    one = flipped(np.asarray(sketches.thumbnails[first]))[variant]
    other = np.asarray(sketches.thumbnails[second])
    score = _agreement(one, other, _shift(one, other))
    if score < MIN_SCORE:
        aligned = _map_of_corners(sketches, first, second, variant)
        if aligned is not None:
            rough = _agreement(one, other, aligned)
            score = max(score, rough)
            if _MIN_REFINED <= rough < MIN_SCORE:
                score = max(score, _agreement(one, other, _refined(one, other, aligned)))
    return score


def _shift(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the (2, 3) map of the best small shift of one onto the other."""
    inner = one[_SHIFT_PX:-_SHIFT_PX, _SHIFT_PX:-_SHIFT_PX]
    _, _, _, best = cv2.minMaxLoc(cv2.matchTemplate(other, inner, cv2.TM_CCOEFF_NORMED))
    return np.array([[1, 0, best[0] - _SHIFT_PX], [0, 1, best[1] - _SHIFT_PX]], dtype=np.float64)


def _map_of_corners(sketches: Sketches, first: int, second: int, variant: int) -> np.ndarray | None:
    """Return the (2, 3) map of thumbnail pixels that most matched corners follow, None where too few do."""
    counts = sketches.corner_counts[[first, second]]
    if counts.min() < _MIN_MATCHES:
        return None
    one = np.asarray(sketches.descriptors[first, variant, : counts[0]])
    other = np.asarray(sketches.descriptors[second, 0, : counts[1]])
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one, other)
    pairs = [(match.queryIdx, match.trainIdx) for match in matches if match.distance <= _MAX_MATCH_BITS]
    if len(pairs) < _MIN_MATCHES:
        return None
    scale = THUMBNAIL_PX / 256
    rows = np.array(pairs)
    source = sketches.points[first, variant][rows[:, 0]].astype(np.float32) * scale
    target = sketches.points[second, 0][rows[:, 1]].astype(np.float32) * scale
    return _scale_and_shift(source, target)


def _scale_and_shift(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Return the (2, 3) map of scales along both axes and a shift that most points follow, None where too few do.

    Every two points that lie apart along both axes propose one; the best is fitted to all that follow it.

    Args:
        source: (M, 2) float32, pixels.
        target: (M, 2) float32, pixels.
    """
    one, other = np.triu_indices(len(source), 1)
    apart = source[one] - source[other]
    is_apart = (np.abs(apart) >= _MIN_APART_PX).all(axis=1)
    one, apart = one[is_apart], apart[is_apart]
    scales = (target[one] - target[other[is_apart]]) / apart
    is_likely = ((scales >= 1 / _MAX_SCALE) & (scales <= _MAX_SCALE)).all(axis=1)
    one, scales = one[is_likely], scales[is_likely]
    if not len(one):
        return None
    shifts = target[one] - scales * source[one]
    errors = np.abs(source[None] * scales[:, None] + shifts[:, None] - target[None]).max(axis=2)
    follows = errors[(errors <= _MAX_ERROR_PX).sum(axis=1).argmax()] <= _MAX_ERROR_PX
    if follows.sum() < _MIN_MATCHES:
        return None
    fitted = [np.polyfit(source[follows, axis], target[follows, axis], 1) for axis in (0, 1)]
    return np.array([[fitted[0][0], 0, fitted[0][1]], [0, fitted[1][0], fitted[1][1]]])


def _is_likely(aligned: np.ndarray) -> bool:
    """Return whether a map scales and shifts, and turns little: with more freedom smooth pictures fit any other."""
    scales = np.diag(aligned[:, :2])
    turn = max(abs(aligned[0, 1]), abs(aligned[1, 0]))
    return bool(turn <= _MAX_TURN and scales.min() >= 1 / _MAX_SCALE and scales.max() <= _MAX_SCALE)


def _refined(one: np.ndarray, other: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """Return the (2, 3) map after some steps on the pixels; as it was where these lead nowhere."""
    start = cv2.invertAffineTransform(aligned).astype(np.float32)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 1e-3)
    everywhere = np.ones_like(one, dtype=np.uint8)
    try:
        _, found = cv2.findTransformECC(other, one, start, cv2.MOTION_AFFINE, criteria, everywhere, 3)
    except cv2.error:  # its iteration does not converge, or the pictures are uncorrelated
        return aligned
    refined = cv2.invertAffineTransform(found)
    return np.asarray(refined) if _is_likely(refined) else aligned


def _agreement(one: np.ndarray, other: np.ndarray, aligned: np.ndarray) -> float:
    """Return the share of blocks with structure that agree when one is laid over the other by a (2, 3) map."""
    size_wh = (THUMBNAIL_PX, THUMBNAIL_PX)
    moved = cv2.warpAffine(one, aligned, size_wh, flags=cv2.INTER_LINEAR)
    shown = cv2.warpAffine(np.full_like(one, 255), aligned, size_wh, flags=cv2.INTER_NEAREST)
    is_shown = _blocks(shown).min(axis=1) == 255
    if is_shown.mean() < _MIN_OVERLAP:
        return 0.0
    first, second = _detail(_blocks(moved)[is_shown]), _detail(_blocks(other)[is_shown])
    deviations = np.sqrt((first**2).mean(axis=1)), np.sqrt((second**2).mean(axis=1))
    has_structure = np.maximum(*deviations) >= _MIN_DEVIATION
    correlation = (first * second).mean(axis=1) / np.maximum(deviations[0] * deviations[1], 1e-6)
    least = np.where(_roughness(second) < _SMOOTH, _MIN_SMOOTH_CORRELATION, _MIN_CORRELATION)
    agreeing = int((correlation >= least)[has_structure].sum())
    return agreeing / max(int(has_structure.sum()), _MIN_BLOCKS)


def _detail(blocks: np.ndarray) -> np.ndarray:
    """Return (blocks, pixels) without mean and slope of each block."""
    exact = blocks.astype(np.float32)
    return np.asarray(exact - exact @ _SLOPES @ _SLOPES.T)


def _roughness(blocks: np.ndarray) -> np.ndarray:
    """Return (blocks,) how much neighbouring pixels differ, relative to all of the block's; 1 for noise."""
    grid = blocks.reshape(-1, _BLOCK_PX, _BLOCK_PX)
    steps = (np.diff(grid, axis=1) ** 2).mean(axis=(1, 2)) + (np.diff(grid, axis=2) ** 2).mean(axis=(1, 2))
    return np.asarray(steps / 4 / np.maximum((grid**2).mean(axis=(1, 2)), 1e-6))


def _blocks(picture: np.ndarray) -> np.ndarray:
    """Return a thumbnail as (blocks, pixels)."""
    grid = picture.reshape(_BLOCKS_A_SIDE, _BLOCK_PX, _BLOCKS_A_SIDE, _BLOCK_PX)
    return grid.swapaxes(1, 2).reshape(_BLOCKS_A_SIDE**2, _BLOCK_PX**2)
