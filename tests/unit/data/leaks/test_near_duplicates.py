"""Copies are found whatever was done to them, other pictures are not, and the search is that of all with all."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations

import cv2
import numpy as np
import pytest

from visionyard.data.leaks.candidates import similar_rows
from visionyard.data.leaks.confirmation import MIN_SCORE
from visionyard.data.leaks.near_duplicates import NearDuplicates, find_near_duplicates, without_other_labels
from visionyard.data.leaks.sketches import make_sketches
from visionyard.errors import MediaError

Scene = Callable[[int], np.ndarray]
Encode = Callable[..., bytes]


def search(images: Sequence[bytes], labels: Sequence[int] | None = None) -> NearDuplicates:
    sketches = make_sketches([partial(bytes, data) for data in images])
    return find_near_duplicates(sketches, np.arange(len(images)) if labels is None else np.array(labels))


def test_each_kind_of_copy_is_found_among_other_pictures(
    make_scene: Scene, encode_scene: Encode, copies: dict[str, Callable[[np.ndarray], bytes]]
) -> None:
    scenes = [make_scene(seed) for seed in range(40)]
    images = [encode_scene(pixels) for pixels in scenes]
    expected = {}
    for number, (name, alter) in enumerate(copies.items()):
        for seed in (number, number + len(copies)):
            expected[seed, len(images)] = name
            images.append(alter(scenes[seed]))
    found = search(images)
    pairs = set(map(tuple, found.pairs.tolist()))
    assert {name for pair, name in expected.items() if pair not in pairs} == set()
    assert pairs == set(expected)
    assert (found.scores >= MIN_SCORE).all()
    assert found.is_complete


def test_an_altered_copy_of_a_copy_joins_its_cluster(make_scene: Scene, encode_scene: Encode) -> None:
    pixels = make_scene(1)
    found = search([encode_scene(pixels), encode_scene(pixels, 30), encode_scene(pixels[:, ::-1])])
    assert found.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]


def test_images_of_one_label_are_not_compared(make_scene: Scene, encode_scene: Encode) -> None:
    data = [encode_scene(make_scene(1), quality) for quality in (92, 80, 70)]
    assert search(data, [0, 0, 1]).pairs.tolist() == [[0, 2], [1, 2]]


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.zeros((48, 64, 3), np.uint8), id="black"),
        pytest.param(np.full((48, 64, 3), 200, np.uint8), id="one grey"),
        pytest.param(np.random.default_rng(0).integers(100, 104, (48, 64, 3), dtype=np.uint8), id="faint noise"),
    ],
)
def test_pictures_that_show_nothing_are_like_no_other(pixels: np.ndarray, encode_scene: Encode) -> None:
    assert not len(search([encode_scene(pixels), encode_scene(pixels, 50)]).pairs)


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 200), (200, 3), (16, 16)], ids=str)
def test_odd_sizes_are_sketched(size_hw: tuple[int, int], encode_scene: Encode) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (*size_hw, 3), dtype=np.uint8)
    search([encode_scene(pixels), encode_scene(pixels, 60)])


def test_shading_alone_makes_no_pair(encode_scene: Encode) -> None:
    ramp = np.tile(np.linspace(20, 220, 320), (240, 1))
    rng = np.random.default_rng(0)
    images = [
        encode_scene(
            np.repeat((ramp * gain + rng.normal(0, 3, ramp.shape)).clip(0, 255)[..., None], 3, 2).astype(np.uint8)
        )
        for gain in (0.8, 0.9, 1.0)
    ]
    assert not len(search(images).pairs)


def test_one_scene_with_other_things_in_front_of_it_is_two_pictures(make_scene: Scene, encode_scene: Encode) -> None:
    ground, one, other = make_scene(3), make_scene(4), make_scene(5)
    first, second = ground.copy(), ground.copy()
    first[:, :220], second[:, :220] = one[:, :220], other[:, :220]
    assert not len(search([encode_scene(first), encode_scene(second)]).pairs)


def test_nothing_and_one_image() -> None:
    assert search([]).pairs.shape == (0, 2)
    picture = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))[1].tobytes()
    assert search([picture]).pairs.shape == (0, 2)


def test_many_alike_make_one_cluster_and_say_that_not_all_pairs_were_compared(
    make_scene: Scene, encode_scene: Encode
) -> None:
    pixels = make_scene(7)
    images = [encode_scene(pixels, quality) for quality in range(40, 95)]
    found = search(images)
    assert not found.is_complete
    assert len(np.unique(found.pairs)) == 55
    # Of pairs that nobody asks for, too: they stood in the way of others.
    kept, _ = without_other_labels(found, range(55))
    of_one_clip = search(images, [0] * 55)
    assert not len(kept.pairs) and not kept.is_complete
    assert not len(of_one_clip.pairs) and not of_one_clip.is_complete
    assert search(images[:20], [0] * 20).is_complete


def test_the_same_images_in_another_order_give_the_same_pairs(
    make_scene: Scene, encode_scene: Encode, copies: dict[str, Callable[[np.ndarray], bytes]]
) -> None:
    images = [encode_scene(make_scene(seed)) for seed in range(12)]
    images += [alter(make_scene(seed)) for seed, alter in enumerate(copies.values())]
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    plain, shuffled = search(images), search([images[position] for position in order])
    back = {tuple(sorted((order[first], order[second]))) for first, second in shuffled.pairs.tolist()}
    assert back == set(map(tuple, plain.pairs.tolist()))


def test_an_unreadable_image_is_named() -> None:
    with pytest.raises(MediaError, match=r"a/b.jpg: not an image"):
        make_sketches([lambda: b"text"], ["a/b.jpg"])


def test_alike_rows_are_those_that_comparing_all_finds() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (300, 32), dtype=np.uint8)
    for copy in range(100):
        flips = np.packbits(rng.random(256) < 0.02)
        rows[200 + copy] = rows[copy] ^ flips
    bits = np.unpackbits(rows, axis=1).astype(int)
    expected = {
        (first, second)
        for first, second in combinations(range(300), 2)
        if np.abs(bits[first] - bits[second]).sum() <= 20
    }
    pairs = {
        tuple(sorted(pair))
        for first, second, _ in similar_rows(rows, np.arange(len(rows)), 20)
        for pair in zip(first.tolist(), second.tolist())
    }
    assert pairs <= expected
    assert len(pairs) >= 0.97 * len(expected)
    assert len(expected) >= 100


def test_pairs_of_other_classes_are_left_out() -> None:
    found = NearDuplicates(np.array([[0, 1], [0, 2], [1, 2]]), np.array([0.9, 0.8, 0.7]), 5)
    kept, count = without_other_labels(found, ["a", "b", "a"])
    assert (kept.pairs.tolist(), kept.scores.tolist(), count) == ([[0, 2]], [0.8], 2)


def test_reordered_pairs_name_the_same_images() -> None:
    found = NearDuplicates(np.array([[0, 1], [1, 3]]), np.array([0.9, 0.8]), 2)
    again = found.reordered([3, 0, 2, 1])  # the image that was third last is now first
    assert again.pairs.tolist() == [[0, 3], [1, 3]]
    assert again.scores.tolist() == [0.8, 0.9]
