"""Which packets a few frames need, and which frames are shown, against the definitions."""

import random
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from visionyard.video.packets import Packets
from visionyard.video.sampling import at, every, shown_at, tolerance_s


def packets(stamps: list[int], keys: list[int], tick_s: Fraction = Fraction(1, 10), last_s: int = 0) -> Packets:
    is_key = np.zeros(len(stamps), bool)
    is_key[keys] = True
    return Packets(np.array(stamps, np.int64), is_key, tick_s, Fraction(last_s), is_damaged=False, is_exact=True)


@dataclass(frozen=True)
class Frame:
    place: int
    time_s: Fraction
    duration_s: Fraction


def test_frames_are_those_that_decoding_would_show() -> None:
    generator = random.Random(3)
    for _ in range(300):
        count = generator.choice([1, 2, 3, 10, 60])
        ticks = sorted(generator.sample(range(-500, 3000), count))
        shuffled = generator.sample(ticks, count)
        tick_s = generator.choice([Fraction(1, 1000), Fraction(1, 600), Fraction(1, 25), Fraction(1001, 30000)])
        table = packets(shuffled, [0], tick_s, generator.choice([0, 1]))
        early_s = generator.choice([Fraction(0), tolerance_s(tick_s)])
        instants = sorted(Fraction(generator.randrange(3000), 1000) for _ in range(5))
        due = generator.choice([every(0.3), every(2.0), every(7.0), every(240.0), at(instants), at([])])
        frames = [
            Frame(place, (tick - ticks[0]) * tick_s, table.last_duration_s if place == count - 1 else Fraction(0))
            for place, tick in enumerate(ticks)
        ]
        expected = [frame.place for frame in shown_at(frames, due, tick_s=early_s)]
        assert table.places_shown_at(due, tolerance_s=early_s) == expected


def test_no_packets_show_no_frames() -> None:
    assert packets([], []).places_shown_at(every(1.0), tolerance_s=Fraction(0)) == []


@pytest.mark.parametrize(
    ("stamps", "keys", "places", "expected"),
    [
        pytest.param(range(40), [0, 20], [0, 22], [0, 20, 21, 22], id="from the key packet on"),
        pytest.param(range(40), [0, 20], [19, 20], [*range(21)], id="across a key packet"),
        pytest.param(range(40), [*range(40)], [0, 3, 30], [0, 3, 30], id="key packets only"),
        pytest.param(range(30), [0, 12], [4, 13], [*range(14)], id="a small gap is not worth it"),
        pytest.param(range(30), [0], [29], [*range(30)], id="one key packet"),
        # Decoded 0 3 1 2 | 6 4 5 | 9 7 8: the frames 4 and 5 follow the key packet 6 and lean on 3.
        pytest.param([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], [0, 4], [5], [0, 1, 2, 3, 4, 5, 6], id="open group"),
        pytest.param([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], [0, 4], [6], [4], id="the key packet of an open group"),
        pytest.param([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], [0, 4], [7], [4, 5, 6, 7, 8], id="after it"),
        pytest.param(range(5), [0], [], [], id="none"),
    ],
)
def test_what_some_frames_need(stamps: list[int], keys: list[int], places: list[int], expected: list[int]) -> None:
    assert np.flatnonzero(packets(list(stamps), keys).needed_for(places)).tolist() == expected
