"""Fingerprints: alike pictures agree, others do not, and the search finds what comparing all with all finds."""

import io
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from visionyard.data.fingerprints import MAX_DISTANCE, fingerprint, near_pairs
from visionyard.errors import MediaError


def distance(first: bytes, second: bytes) -> int:
    one, other = fingerprint(first), fingerprint(second)
    assert one is not None
    assert other is not None
    return (one ^ other).bit_count()


def test_bits_say_whether_the_right_cell_is_brighter(encode_image: Callable[..., bytes]) -> None:
    ramp = np.repeat(np.linspace(0, 255, 72, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    assert fingerprint(encode_image(ramp, "PNG")) == 2**64 - 1
    assert fingerprint(encode_image(ramp[:, ::-1], "PNG")) == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image.resize((200, 150)), id="smaller"),
        pytest.param(lambda image: image.resize((1000, 700), Image.Resampling.BICUBIC), id="larger, another shape"),
        pytest.param(lambda image: ImageEnhance.Brightness(image).enhance(0.8), id="darker"),
        pytest.param(lambda image: image.convert("L"), id="grey"),
    ],
)
@pytest.mark.parametrize("quality", [30, 95])
def test_altered_copies_are_near(change: Any, quality: int, random_picture: Callable[..., np.ndarray]) -> None:
    for seed in range(8):
        image = Image.fromarray(random_picture(seed, size_hw=(300, 400)))
        stream, original = io.BytesIO(), io.BytesIO()
        change(image).save(stream, "JPEG", quality=quality)
        image.save(original, "PNG")
        assert distance(stream.getvalue(), original.getvalue()) <= MAX_DISTANCE


def test_other_pictures_are_far(random_picture: Callable[..., np.ndarray], encode_image: Callable[..., bytes]) -> None:
    files = [encode_image(random_picture(seed)) for seed in range(30)]
    assert min(distance(first, second) for first, second in combinations(files, 2)) > 2 * MAX_DISTANCE


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_without_structure_has_none(level: int, encode_image: Callable[..., bytes]) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (60, 80, 3))
    assert fingerprint(encode_image(np.clip(noise + level, 0, 255).astype(np.uint8))) is None


def test_what_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(MediaError, match="not an image"):
        fingerprint(b"no image")


def all_pairs(hashes: np.ndarray) -> set[tuple[int, int, int]]:
    bits = [(i, j, (int(hashes[i]) ^ int(hashes[j])).bit_count()) for i, j in combinations(range(len(hashes)), 2)]
    return {pair for pair in bits if pair[2] <= MAX_DISTANCE}


@pytest.mark.parametrize("seed", range(4))
def test_search_finds_what_comparing_all_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, 12, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 6), replace=False)) for _ in range(240)]
    values = [int(centre) ^ flip for centre, flip in zip(np.repeat(centres, 20), flips, strict=True)]
    hashes = np.unique(np.array(values, dtype=np.uint64))
    found = [tuple(row) for pairs in near_pairs(hashes) for row in (() if pairs is None else pairs.tolist())]
    assert len(found) == len(set(found))
    assert set(found) == all_pairs(hashes)
    assert len(found) > 100


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_hashes(count: int) -> None:
    hashes = np.arange(count, dtype=np.uint64)
    found = [row for pairs in near_pairs(hashes) for row in (() if pairs is None else pairs.tolist())]
    assert found == ([[0, 1, 1]] if count == 2 else [])


def test_search_stops_at_its_limit_and_says_so() -> None:
    hashes = np.arange(2000, dtype=np.uint64)  # all share their upper 53 bits
    results = list(near_pairs(hashes, max_compared_pairs=10_000))
    assert results[-1] is None
    assert all(pairs is not None for pairs in results[:-1])


def test_search_of_many_hashes_is_fast() -> None:
    hashes = np.unique(np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64))
    results = list(near_pairs(hashes))
    assert sum(0 if pairs is None else len(pairs) for pairs in results) == 0
    assert all(pairs is not None for pairs in results)
