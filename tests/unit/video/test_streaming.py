"""Frames from a process of its own: the same pixels, and no harm when it dies."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.clips import write_clip
from visionyard.errors import MediaError, VisionyardError
from visionyard.video.streaming import END, FRAME, HEADER, READY, stream_frames


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", (np.full((80, 96, 3), number * 12, np.uint8) for number in range(20)))


def test_the_same_frames_as_without_a_process(clip: Path) -> None:
    from visionyard.video.decoding import VideoReader
    from visionyard.video.sampling import every, shown_at

    with VideoReader(clip) as reader:
        expected = [
            (float(frame.time_s), frame.frame_index, reader.to_rgb(frame))
            for frame in shown_at(reader.frames(), every(4.0), tick_s=reader.tick_s)
        ]

    seen = list(stream_frames(clip, 4.0))

    assert [(frame.time_s, frame.frame_index) for frame in seen] == [one[:2] for one in expected]
    assert len(seen) == 8
    np.testing.assert_array_equal([frame.image for frame in seen], [one[2] for one in expected])


def test_a_process_tells_that_it_works_while_no_frame_is_due(clip: Path) -> None:
    command = [sys.executable, "-m", "visionyard.video._stream_child", str(clip), "0.1", str(4 << 30), "clip"]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    kinds = []
    while told:
        kind, _, _, height, width = HEADER.unpack(told[: HEADER.size])
        kinds.append(kind)
        told = told[HEADER.size + height * width * 3 :]
    assert (kinds.count(FRAME), kinds[-1]) == (1, END)
    assert kinds.count(READY) > 20


def test_a_server_with_a_thousand_open_connections_still_reads_videos(clip: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("needs a limit of at least 2048 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert len(list(stream_frames(clip, 10.0))) == 20
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_reader_that_stops_early_leaves_no_process(clip: Path) -> None:
    frames = stream_frames(clip, 10.0)
    next(frames)
    frames.close()
    assert next(stream_frames(clip, 10.0)).frame_index == 0


@pytest.mark.parametrize(
    ("program", "error", "message"),
    [
        pytest.param("import os; os.abort()", VisionyardError, "was ended by SIGABRT before it was ready", id="start"),
        pytest.param("put(READY); os.abort()", MediaError, "was ended by SIGABRT; convert it", id="abort"),
        pytest.param("put(READY); put(FRAME, 4, 4); os.abort()", MediaError, "was ended by SIGABRT", id="in_a_frame"),
        pytest.param(
            "put(READY); print('out of luck', file=sys.stderr); sys.exit(3)",
            MediaError,
            "exited with 3 .out",
            id="exit",
        ),
        pytest.param("put(READY); time.sleep(60)", MediaError, r"no frame was decoded for 0\.5 s", id="hang"),
    ],
)
def test_a_decoder_that_ends_badly(program: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        "import os, sys, time\nfrom visionyard.video.streaming import FRAME, HEADER, READY\n"
        "def put(kind, height=0, width=0): os.write(1, HEADER.pack(kind, 0.0, 0, height, width))\n" + program
    )
    # Starting Python may take longer than the time-out on a busy machine; only the hanging one is given a short one.
    patience_s = 0.5 if "sleep" in program else 30.0
    frames = stream_frames(tmp_path / "x.mp4", 1.0, command=[sys.executable, str(child)], timeout_s=patience_s)
    with pytest.raises(error, match=message):
        list(frames)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"\0\0\0\x18ftypisom" + b"\0" * 40, id="no_video"),
        pytest.param(lambda data: b"", id="empty"),
    ],
)
def test_a_damaged_video_is_told(damage: Callable[[bytes], bytes], clip: Path) -> None:
    clip.write_bytes(damage(clip.read_bytes()))
    with pytest.raises(MediaError, match=r"clip\.mp4: "):
        list(stream_frames(clip, 1.0))
