"""Which frames are taken, against the definition computed by brute force."""

import random
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import pytest

from visionyard.video.sampling import FrameClock, at, every, shown_at, thin_evenly


@dataclass(frozen=True)
class Frame:
    time_s: Fraction
    duration_s: Fraction = Fraction(0)


def frames_at(times: list[Fraction], duration_s: Fraction = Fraction(0)) -> list[Frame]:
    return [Frame(time_s, duration_s) for time_s in times]


def taken(times: list[Fraction], rate_hz: float, tick_s: Fraction = Fraction(0)) -> list[int]:
    frames = frames_at(times)
    return [frames.index(frame) for frame in shown_at(frames, every(rate_hz), tick_s=tick_s)]


NTSC = [Fraction(1001 * number, 30000) for number in range(120)]
MILLISECONDS = [Fraction(round(1000 * number / 30), 1000) for number in range(90)]


@pytest.mark.parametrize(
    ("times", "rate_hz", "tick_s", "expected"),
    [
        pytest.param([Fraction(n, 30) for n in range(60)], 2.0, Fraction(1, 15360), [0, 15, 30, 45], id="30 Hz"),
        # At 0.5 s frame 14 (0.467 s) is on the screen, frame 15 comes at 0.5005 s.
        pytest.param(NTSC, 2.0, Fraction(1, 30000), [0, 14, 29, 44, 59, 74, 89, 104, 119], id="29.97 Hz"),
        pytest.param(NTSC, 29.97, Fraction(1, 30000), list(range(120)), id="29.97 Hz at its own rate"),
        pytest.param(NTSC, 240.0, Fraction(1, 30000), list(range(120)), id="rate above the video's"),
        pytest.param(MILLISECONDS, 30.0, Fraction(1, 1000), list(range(90)), id="times rounded to milliseconds"),
        pytest.param([Fraction(t) for t in (0, 5, 6)], 1.0, Fraction(0), [0, 1, 2], id="long frame once"),
        pytest.param([Fraction(0), Fraction(1, 100), Fraction(9, 10)], 2.0, Fraction(0), [0, 1, 2], id="variable rate"),
        pytest.param([Fraction(0)], 0.1, Fraction(1, 1000), [0], id="one frame"),
        pytest.param([], 2.0, Fraction(0), [], id="none"),
    ],
)
def test_frames_on_the_screen_are_taken(
    times: list[Fraction], rate_hz: float, tick_s: Fraction, expected: list[int]
) -> None:
    assert taken(times, rate_hz, tick_s) == expected


def test_variable_rate_equals_the_definition() -> None:
    generator = random.Random(5)
    for _ in range(50):
        ticks = sorted(generator.sample(range(1, 4000), generator.randint(1, 60)))
        times = [Fraction(0), *(Fraction(tick, 1000) for tick in ticks)]
        rate = generator.choice([1, 2, 5, 10, 25])
        end = times[-1] + times[-1] - times[-2]
        instants = [Fraction(number, rate) for number in range(4 * 4 * rate)]
        shown = {max(n for n, t in enumerate(times) if t <= instant) for instant in instants if instant < end}
        assert taken(times, float(rate)) == sorted(shown)


def test_the_last_frame_is_shown_for_its_duration() -> None:
    frames = frames_at([Fraction(0), Fraction(9, 10)], duration_s=Fraction(2, 10))
    assert list(shown_at(frames, every(1.0), tick_s=Fraction(0))) == frames


def test_given_instants() -> None:
    frames = frames_at([Fraction(number, 10) for number in range(20)])
    chosen = list(shown_at(frames, at([Fraction(0), Fraction(55, 100), Fraction(19, 10)]), tick_s=Fraction(0)))
    assert [frames.index(frame) for frame in chosen] == [0, 5, 19]


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match=f"got {rate_hz}"):
        every(rate_hz)


@pytest.mark.parametrize(
    ("count", "max_count", "expected"),
    [
        (0, 5, []),
        (3, 0, [0, 1, 2]),
        (3, 3, [0, 1, 2]),
        (9, 3, [0, 4, 8]),
        (10, 4, [0, 3, 6, 9]),
        (5, 1, [2]),
        (100, 2, [0, 99]),
    ],
)
def test_thinning_is_even(count: int, max_count: int, expected: list[int]) -> None:
    assert thin_evenly(count, max_count) == expected


def test_thinning_keeps_the_number_and_no_frame_twice() -> None:
    for count in range(1, 60):
        for max_count in range(1, count + 1):
            assert len(set(thin_evenly(count, max_count))) == max_count


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        pytest.param([(100, 98), (110, 99), (130, 100)], [0, 10, 30], id="from the first frame"),
        pytest.param([(1, 3), (4, 4), (6, 5), (5, 6), (7, 7), (9, 8), (8, 9)], None, id="pts of packed B-frames"),
        pytest.param([(0, 0), (10, 10), (20, 20), (3, 3), (13, 13)], [0, 10, 20, 30, 40], id="joined recordings"),
        pytest.param([(None, None)] * 3, [0, 10, 20], id="no stamps"),
        pytest.param([(None, 5), (None, 15)], [0, 10], id="decoding stamps only"),
        pytest.param([(0, 0), (0, 0), (10, 10)], [0, 10, 20], id="twice the same"),
    ],
)
def test_clock(stamps: list[tuple[int | None, int | None]], expected: list[int] | None) -> None:
    clock = FrameClock(tick_s=Fraction(1), rate_hz=Fraction(1, 10))
    times = [clock.time_of(pts, dts) for pts, dts in stamps]
    if expected is not None:
        assert times == expected
    assert times[0] == 0
    assert all(later > earlier for earlier, later in pairwise(times))


def test_clock_of_a_container_without_presentation_stamps_counts_packets() -> None:
    clock = FrameClock(tick_s=Fraction(1, 25), rate_hz=Fraction(25), has_presentation_stamps=False)
    stamps = [(1, 3), (4, 4), (6, 5), (5, 6), (7, 7), (9, 8), (8, 9)]
    assert [clock.time_of(pts, dts) * 25 for pts, dts in stamps] == [0, 1, 2, 3, 4, 5, 6]
