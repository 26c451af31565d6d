"""Which frames of a video are taken: a clock that survives wrong timestamps, and frames shown at given instants."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Protocol, TypeVar

# Returns the first wanted instant at or after a time, None when there is none.
Due = Callable[[Fraction], Fraction | None]

# Containers round times to their clock's tick (1 ms in Matroska, 1/600 s in QuickTime): a frame meant for 33.33 ms says
# 33. Ticks of a whole frame (AVI) are exact, so that more than 2 ms is never forgiven.
_MAX_TOLERANCE_S = Fraction(2, 1000)


class Timed(Protocol):
    """A frame with its place in time."""

    @property
    def time_s(self) -> Fraction:
        """Presentation time from the first frame."""

    @property
    def duration_s(self) -> Fraction:
        """How long it is shown, as far as the file says; 0 when it does not."""


AnyFrame = TypeVar("AnyFrame", bound=Timed)


class FrameClock:
    """Turn the stamps of frames in presentation order into ascending times from the first frame.

    Where presentation stamps run backwards more often than decoding stamps, the latter are taken, as libavcodec's
    `guess_correct_pts` does. A clock that still steps back (joined recordings) is set on: the frame follows its
    predecessor after one usual interval, and those after it keep their distances.
    """

    def __init__(self, *, tick_s: Fraction, rate_hz: Fraction, has_presentation_stamps: bool = True) -> None:
        """Start before the first frame.

        Args:
            tick_s: Length of one tick of the stamps.
            rate_hz: Declared frame rate, for frames without any stamp.
            has_presentation_stamps: False for AVI, whose stamps count packets in the order of decoding.
        """
        self._tick_s = tick_s
        self._usual_s = 1 / rate_hz
        self._backward_pts_count = 0 if has_presentation_stamps else 1
        self._backward_dts_count = 0
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._offset_s = Fraction(0)
        self._previous_s: Fraction | None = None

    def time_of(self, pts: int | None, dts: int | None) -> Fraction:
        """Return the time of the next frame in presentation order, in seconds, above that of the frame before."""
        stamp = self._trusted(pts, dts)
        previous = self._previous_s
        if previous is None:
            self._offset_s = -stamp * self._tick_s if stamp is not None else Fraction(0)
            time_s = Fraction(0)
        elif stamp is None:
            time_s = previous + self._usual_s
        else:
            time_s = stamp * self._tick_s + self._offset_s
            if time_s <= previous:
                self._offset_s += previous + self._usual_s - time_s
                time_s = previous + self._usual_s
        self._previous_s = time_s
        return time_s

    def _trusted(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._backward_dts_count += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._backward_pts_count += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        if pts is not None and (dts is None or self._backward_pts_count <= self._backward_dts_count):
            return pts
        return dts


def every(rate_hz: float) -> Due:
    """Return the instants 0, 1/rate, 2/rate and so on, without end.

    Args:
        rate_hz: Instants a second, above 0; taken as the decimal it is written as, so that 0.1 is one tenth.

    Raises:
        ValueError: The rate is not above 0.
    """
    if not rate_hz > 0 or math.isinf(rate_hz):
        raise ValueError(f"rate_hz: expected a number above 0, got {rate_hz}")
    rate = Fraction(repr(float(rate_hz)))
    return lambda time_s: Fraction(max(0, math.ceil(time_s * rate))) / rate


def at(instants: Sequence[Fraction]) -> Due:
    """Return ascending instants as a function of time."""

    def first_from(time_s: Fraction) -> Fraction | None:
        place = bisect_left(instants, time_s)
        return instants[place] if place < len(instants) else None

    return first_from


def shown_at(frames: Iterable[AnyFrame], due: Due, *, tick_s: Fraction) -> Iterator[AnyFrame]:
    """Yield the frames that are on the screen at the wanted instants, each once.

    A frame is shown from its own time until that of the next one; the last one for its duration. A rate above the
    video's yields every frame.

    Args:
        frames: In presentation order, times ascending.
        due: The wanted instants, such as `every(2.0)`.
        tick_s: Tick of the container's clock; a frame counts as shown that much early, at most 2 ms, since its time
            was rounded to it.
    """
    early_s = tolerance_s(tick_s)
    previous: AnyFrame | None = None
    interval_s = early_s
    for frame in frames:
        if previous is not None:
            interval_s = frame.time_s - previous.time_s
            if _is_due(due, previous.time_s - early_s, frame.time_s - early_s):
                yield previous
        previous = frame
    if previous is not None:
        end_s = previous.time_s + max(previous.duration_s, interval_s)
        if _is_due(due, previous.time_s - early_s, end_s - early_s) or previous.time_s == 0:
            yield previous


def tolerance_s(tick_s: Fraction) -> Fraction:
    """Return how early a frame counts as shown, by the tick of its clock."""
    return min(tick_s, _MAX_TOLERANCE_S)


def _is_due(due: Due, start_s: Fraction, end_s: Fraction) -> bool:
    instant = due(start_s)
    return instant is not None and instant < end_s


def thin_evenly(count: int, max_count: int) -> list[int]:
    """Return at most `max_count` of the indices 0 to `count` - 1, evenly spread, the first and the last among them.

    Args:
        count: How many there are.
        max_count: Most to keep; 0 keeps all; 1 keeps the one in the middle.
    """
    if max_count <= 0 or count <= max_count:
        return list(range(count))
    if max_count == 1:
        return [(count - 1) // 2]
    # Integers throughout: half way rounds up, the same on every machine.
    return [(2 * step * (count - 1) + max_count - 1) // (2 * (max_count - 1)) for step in range(max_count)]
