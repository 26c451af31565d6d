"""The packets of a video, read without decoding them: true times, and which of them a few wanted frames need."""

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import av.error
import numpy as np

from visionyard.video.probe import has_presentation_stamps, open_video, video_info
from visionyard.video.sampling import Due

# Codecs and containers in which each packet holds one frame that is shown, and states when. Not so: VP8 (frames that
# are never shown), MPEG-4 part 2 out of AVI (two frames in one packet), transport streams (packets are guessed).
_EXACT_CODECS = {"h264", "hevc", "vp9", "av1", "libdav1d", "mjpeg", "ffv1", "prores", "dnxhd"}
_EXACT_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# Passing over fewer packets than these saves less than starting the decoder anew costs its threads.
_LEAST_GAP = 8


@dataclass(frozen=True)
class Packets:
    """The packets of a video in the order of decoding; some 20 bytes of memory each.

    Attributes:
        stamps: (N,) int64, in ticks: when each frame is shown.
        is_key: (N,) bool: decoding can begin here.
        tick_s: Length of a tick.
        last_duration_s: How long the frame shown last is shown, 0 when the file does not say.
        is_damaged: Whether packets cannot be read or are cut short.
        is_exact: Whether every packet is one frame, shown at its stamp: then packets tell all about the frames.
    """

    stamps: np.ndarray
    is_key: np.ndarray
    tick_s: Fraction
    last_duration_s: Fraction
    is_damaged: bool
    is_exact: bool

    @cached_property
    def in_order(self) -> np.ndarray:
        """The stamps in presentation order."""
        return np.sort(self.stamps)

    def time_s(self, place: int) -> Fraction:
        """Return when the frame at a place in presentation order is shown, from the earliest one."""
        return int(self.in_order[place] - self.in_order[0]) * self.tick_s

    def places_shown_at(self, due: Due, *, tolerance_s: Fraction) -> list[int]:
        """Return the places of the frames that `sampling.shown_at` would yield, going from instant to instant.

        Args:
            due: The wanted instants.
            tolerance_s: A frame counts as shown that much early.
        """
        count = len(self.stamps)
        if not count:
            return []
        interval_s = self.time_s(count - 1) - self.time_s(count - 2) if count > 1 else tolerance_s
        end_s = self.time_s(count - 1) + max(self.last_duration_s, interval_s)
        places: list[int] = []
        place = 0
        while place < count and (instant := due(self.time_s(place) - tolerance_s)) is not None:
            if instant >= end_s - tolerance_s:
                break
            tick = math.floor((instant + tolerance_s) / self.tick_s) + int(self.in_order[0])
            places.append(int(np.searchsorted(self.in_order, tick, side="right")) - 1)
            place = places[-1] + 1
        return places or ([0] if count == 1 else [])

    def end_s(self, rate_hz: Fraction) -> Fraction:
        """Return when the frame shown last ends, from the earliest one; where no packet says, by the frame rate."""
        return self.time_s(-1) + (self.last_duration_s or 1 / rate_hz)

    def needed_for(self, places: Sequence[int]) -> np.ndarray:
        """Return which packets have to be decoded to see some of the frames.

        Args:
            places: Of the frames in presentation order, ascending.

        Returns:
            (N,) bool. Each run of needed packets begins with a key packet that is shown no later than the frames wanted
            of it: frames that are shown before the key packet they follow lean on what came before it.
        """
        order = np.argsort(self.stamps, kind="stable")
        keys = np.flatnonzero(self.is_key)
        starts = np.zeros(len(self.stamps) + 1, np.int64)
        for place in places:
            packet = int(order[place])
            before = int(np.searchsorted(keys, packet, side="right")) - 1
            while before > 0 and self.stamps[keys[before]] > self.stamps[packet]:
                before -= 1
            starts[keys[before]] += 1
            starts[packet + 1] -= 1
        is_needed = np.cumsum(starts[:-1]) > 0
        return is_needed if self.is_key.all() else _without_small_gaps(is_needed)


def _without_small_gaps(is_needed: np.ndarray) -> np.ndarray:
    edges = np.flatnonzero(np.diff(is_needed.astype(np.int8)))
    filled = is_needed.copy()
    for end, start in pairwise(edges):
        if is_needed[end] and start - end < _LEAST_GAP:
            filled[end + 1 : start + 1] = True
    return filled


def read_packets(path: Path, *, name: str = "", on_packet: Callable[[], None] = lambda: None) -> Packets:
    """Read the packets of a video.

    This tells a video's true length, whatever its header says, for the cost of reading the file.

    Args:
        path: The file.
        name: What to call it in errors; empty takes `path`.
        on_packet: Called with each packet: a long file on a slow disk takes minutes.

    Raises:
        MediaError: Not a readable video.
    """
    with open_video(path, name=name) as (container, stream):
        has_stamps = has_presentation_stamps(container)
        is_exact = stream.codec_context.name in _EXACT_CODECS and container.format.name in _EXACT_CONTAINERS
        stamps, keys, is_timed, is_damaged = array("q"), bytearray(), True, False
        last_duration, last_stamp = 0, None
        try:
            for packet in container.demux(stream):
                on_packet()
                if not packet.size:
                    continue
                is_damaged = is_damaged or packet.is_corrupt
                is_exact = is_exact and packet.pts is not None and not packet.is_discard
                if packet.is_discard:
                    continue
                stamp = packet.pts if packet.pts is not None and has_stamps else packet.dts
                is_timed = is_timed and stamp is not None
                stamps.append(stamp if stamp is not None else len(stamps))
                keys.append(packet.is_keyframe)
                if last_stamp is None or stamps[-1] > last_stamp:
                    last_stamp, last_duration = stamps[-1], packet.duration or 0
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError:
            is_damaged = True  # what follows cannot be read; decoding ends at the same place and says so
        tick_s = Fraction(stream.time_base if is_timed else 1 / video_info(container, stream).rate_hz)
        ticks, is_key = np.asarray(stamps, np.int64), np.frombuffer(keys, np.uint8).astype(bool)
        return Packets(
            ticks,
            is_key,
            tick_s,
            last_duration * tick_s,
            is_damaged=is_damaged,
            is_exact=is_exact and is_timed and not is_damaged and _is_orderly(ticks, is_key),
        )


def _is_orderly(ticks: np.ndarray, is_key: np.ndarray) -> bool:
    """Return whether a video neither begins with what cannot be decoded nor shows two frames at a time."""
    return len(ticks) > 0 and bool(is_key[0] and ticks[0] == ticks.min()) and len(np.unique(ticks)) == len(ticks)
