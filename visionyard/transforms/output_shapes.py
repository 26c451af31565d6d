"""Whether a model's outputs have the shapes that a convention says."""

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np

from visionyard.errors import ShapeError


def check_shapes(
    expected: dict[str, tuple[str, ...]], outputs: Sequence[np.ndarray], *, known: dict[str, int], convention: str
) -> None:
    """Refuse outputs that are not what a convention says.

    Args:
        expected: For each output its shape; an axis is a number, a letter, or a sum of them (`4+C`, `4+C+3K`). A letter
            stands for one size of at least 1 (A may be 0), the same in all outputs.
        outputs: What a model gave.
        known: Sizes of letters that are known before, such as the images of the batch.
        convention: What the message calls it.

    Raises:
        ShapeError: Another number of outputs, or another shape; gives both.
    """
    fits = len(outputs) == len(expected) and all(
        len(shape) == array.ndim for shape, array in zip(expected.values(), outputs, strict=True)
    )
    if fits:
        axes = [
            pair
            for shape, array in zip(expected.values(), outputs, strict=True)
            for pair in zip(shape, array.shape, strict=True)
        ]
        fits = _fit(axes, dict(known))
    if not fits:
        found = ", ".join(str(array.shape) for array in outputs)
        wanted = ", ".join(_shape_text(shape, known) for shape in expected.values())
        classes = f" and {known['C']} classes" if "C" in known else ""
        raise ShapeError(
            f"output: expected {wanted} for {convention}{classes}, got {found or 'none'}; the model does not fit its "
            "postprocessing spec"
        )


def _fit(axes: list[tuple[str, int]], sizes: dict[str, int]) -> bool:
    """Return whether there is a size for each letter; a sum of two unknown ones waits until another axis tells one."""
    waiting = []
    for axis, size in axes:
        rest, factors = _terms(axis)
        rest = size - rest - sum(factor * sizes[letter] for letter, factor in factors.items() if letter in sizes)
        unknown = [letter for letter in factors if letter not in sizes]
        if not unknown:
            if rest:
                return False
        elif len(unknown) > 1:
            waiting.append((axis, size))
        else:
            (letter,) = unknown
            sizes[letter], remainder = divmod(rest, factors[letter])
            if remainder or sizes[letter] < (0 if letter == "A" else 1):
                return False
    return len(waiting) == len(axes) or _fit(waiting, sizes) if waiting else True


@cache
def _terms(axis: str) -> tuple[int, Mapping[str, int]]:
    """Return the number in an axis, and the factors of its letters."""
    terms = axis.split("+")
    letters = {term[-1]: int(term[:-1] or 1) for term in terms if not term.isdigit()}
    return sum(int(term) for term in terms if term.isdigit()), MappingProxyType(letters)


def _shape_text(shape: tuple[str, ...], known: dict[str, int]) -> str:
    axes = []
    for axis in shape:
        constant, factors = _terms(axis)
        constant += sum(factor * known[letter] for letter, factor in factors.items() if letter in known)
        open_terms = [term for term in axis.split("+") if not term.isdigit() and term[-1] not in known]
        axes.append(" + ".join(([str(constant)] if constant else []) + open_terms) or "0")
    return "(" + ", ".join(axes) + ("," if len(axes) == 1 else "") + ")"
