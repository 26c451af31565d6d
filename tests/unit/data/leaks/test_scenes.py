"""Cuts of a clip are found where the picture changes as a whole, and nowhere else."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from visionyard.data.leaks.scenes import scene_numbers
from visionyard.data.leaks.sketches import make_sketches

Scene = Callable[[int], np.ndarray]
Encode = Callable[..., bytes]
BLACK = np.zeros((240, 320, 3), np.uint8)


def numbers_of(pictures: Sequence[np.ndarray], encode: Encode, times: Sequence[float | None]) -> list[int | None]:
    sketches = make_sketches([partial(bytes, encode(picture)) for picture in pictures])
    return scene_numbers([("clip", time) for time in times], sketches)


def test_three_shots_are_three_scenes(make_scene: Scene, encode_scene: Encode) -> None:
    shots = [np.roll(make_scene(shot), 3 * frame, axis=1) for shot in (1, 2, 3) for frame in range(4)]
    assert numbers_of(shots, encode_scene, [n / 2 for n in range(12)]) == [1] * 4 + [2] * 4 + [3] * 4


def test_frames_are_taken_in_order_of_time(make_scene: Scene, encode_scene: Encode) -> None:
    pictures = [make_scene(1), make_scene(2), make_scene(1), make_scene(2)]
    assert numbers_of(pictures, encode_scene, [0.0, 5.0, 1.0, 6.0]) == [1, 2, 1, 2]


@pytest.mark.parametrize(
    "times", [pytest.param([0.0, 1.0, 2.0], id="one shot"), pytest.param([None, None, None], id="loose images")]
)
def test_one_shot_and_loose_images_have_no_scenes(
    times: list[float | None], make_scene: Scene, encode_scene: Encode
) -> None:
    darker = (make_scene(1) * 0.7).astype(np.uint8)
    assert numbers_of([make_scene(1), darker, make_scene(1)], encode_scene, times) == [None] * 3


def test_black_frames_between_two_shots_are_a_scene_of_their_own(make_scene: Scene, encode_scene: Encode) -> None:
    pictures = [make_scene(1), BLACK, BLACK, make_scene(2)]
    assert numbers_of(pictures, encode_scene, [0.0, 1.0, 2.0, 3.0]) == [1, 2, 2, 3]
