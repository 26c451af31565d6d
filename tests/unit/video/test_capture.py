"""Clips from a file as the device, and from a network camera that answers, refuses, falls silent or breaks off."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av.error
import numpy as np
import pytest

from visionyard.errors import ConfigError, MediaError
from visionyard.video import capture
from visionyard.video.capture import check_device, find_device, record_clip
from visionyard.video.decoding import VideoReader

MakeClip = Callable[..., Path]
ReadNumber = Callable[[np.ndarray], int]
SECRET = "geheim"
SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"


@contextmanager
def network_camera(stream: bytes, *, status: str = "200 OK", is_silent: bool = False) -> Iterator[str]:
    """Serve a transport stream over RTSP, interleaved in its connection; the connection ends with the stream."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, stream, status, is_silent), daemon=True).start()
        yield f"rtsp://user:{SECRET}@127.0.0.1:{server.getsockname()[1]}/live?key={SECRET}"


def _serve(server: socket.socket, stream: bytes, status: str, is_silent: bool) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as requests:
            while not is_silent and (line := requests.readline()):
                method, number = line.split()[0], b"1"
                while (header := requests.readline().strip()) != b"":
                    if header.lower().startswith(b"cseq:"):
                        number = header.split(b":")[1].strip()
                _answer(connection, method, number, status)
                if method == b"PLAY":
                    _play(connection, stream)
                    break
            if is_silent:
                time.sleep(3)


def _answer(connection: socket.socket, method: bytes, number: bytes, status: str) -> None:
    body = SDP if method == b"DESCRIBE" and status.startswith("200") else b""
    more = b"Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nContent-Type: application/sdp\r\n"
    head = f"RTSP/1.0 {status}\r\nCSeq: {number.decode()}\r\nContent-Length: {len(body)}\r\n".encode()
    connection.sendall(head + more + b"\r\n" + body)


def _play(connection: socket.socket, stream: bytes) -> None:
    size = 7 * 188
    for sequence, start in enumerate(range(0, len(stream), size)):
        packet = b"\x80\x21" + sequence.to_bytes(2, "big") + (sequence * 900).to_bytes(4, "big") + b"\0\0\0\1"
        packet += stream[start : start + size]
        try:
            connection.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
        except OSError:
            return
        time.sleep(0.01)


def numbers(path: Path, read_number: ReadNumber) -> list[tuple[float, int]]:
    with VideoReader(path) as reader:
        return [(round(float(frame.time_s), 3), read_number(reader.to_rgb(frame))) for frame in reader.frames()]


@pytest.mark.parametrize(
    ("text", "platform", "expected"),
    [
        ("0", "linux", ("/dev/video0", "/dev/video0", "v4l2")),
        ("/dev/video2", "linux", ("/dev/video2", "/dev/video2", "v4l2")),
        ("1", "darwin", ("1", "camera 1", "avfoundation")),
        ("rtsp://u:p@cam:554/a?b=c", "linux", ("rtsp://u:p@cam:554/a?b=c", "rtsp://cam:554/a", "rtsp")),
    ],
)
def test_devices_are_named(text: str, platform: str, expected: tuple[str, str, str]) -> None:
    device = find_device(text, platform=platform)
    assert (device.address, device.name, device.input_format) == expected
    assert "p@" not in repr(device)


@pytest.mark.parametrize(
    ("text", "platform", "message"),
    [
        ("nothing.mp4", "linux", "--device nothing.mp4: expected a camera's number"),
        ("http://u:p@cam/a", "linux", "--device http://cam/a: expected"),
        ("0", "win32", "cameras are not supported on win32; use an rtsp://"),
    ],
)
def test_what_is_no_device_is_refused(text: str, platform: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_device(text, platform=platform)


def test_a_part_of_a_file_becomes_a_clip(make_clip: MakeClip, read_number: ReadNumber, tmp_path: Path) -> None:
    device = find_device(str(make_clip(count=30, rate=10)))
    assert check_device(device) == (96, 64)
    times: list[float] = []
    first = record_clip(device, tmp_path / "out", "hand", seconds=1.0, on_time=times.append)
    second = record_clip(device, tmp_path / "out", "hand", seconds=1.2, after_s=1.0)
    assert first.path == tmp_path / "out" / "hand" / "hand-001.mp4"
    assert second.path.name == "hand-002.mp4"
    assert numbers(first.path, read_number) == [(n / 10, n) for n in range(10)]
    assert numbers(second.path, read_number) == [(n / 10, n + 10) for n in range(12)]
    assert (first.frame_count, first.duration_s) == (10, 0.9)
    assert times[:11] == pytest.approx([n / 10 for n in range(11)])
    assert 60 < first.brightness < 140


def test_no_clip_is_overwritten_nor_begun_twice(make_clip: MakeClip, tmp_path: Path) -> None:
    device = find_device(str(make_clip(count=5)))
    folder = tmp_path / "hand"
    folder.mkdir()
    (folder / "hand-001.mp4").write_bytes(b"mine")
    (folder / ".hand-002.mp4.partial").write_bytes(b"of another session")
    assert record_clip(device, tmp_path, "hand", seconds=0.2).path.name == "hand-003.mp4"
    assert (folder / "hand-001.mp4").read_bytes() == b"mine"
    assert (folder / ".hand-002.mp4.partial").read_bytes() == b"of another session"


def test_a_clip_that_another_session_ends_meanwhile_is_not_overwritten(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch, theirs = Path.touch, tmp_path / "hand" / "hand-001.mp4"

    def end_then_touch(path: Path, **options: bool) -> None:
        if path.name == ".hand-001.mp4.partial":
            theirs.write_bytes(b"theirs")
        touch(path, **options)

    monkeypatch.setattr(Path, "touch", end_then_touch)
    clip = record_clip(find_device(str(make_clip(count=5))), tmp_path, "hand", seconds=0.2)
    assert (clip.path.name, theirs.read_bytes()) == ("hand-002.mp4", b"theirs")
    assert sorted(path.name for path in theirs.parent.iterdir()) == ["hand-001.mp4", "hand-002.mp4"]


@pytest.mark.parametrize("colours", ["bt709", "smpte170m", "undef"])
def test_a_clip_looks_like_what_was_recorded(colours: str, make_clip: MakeClip, tmp_path: Path) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48], image[:32, 48:], image[32:, :48] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    words = f"colormatrix={colours}:colorprim={colours}:transfer={colours}"
    quarter_clockwise = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    source = make_clip(images=[image] * 8, options={"x264-params": words}, matrix=quarter_clockwise)
    clip = record_clip(find_device(str(source)), tmp_path / "out", "a", seconds=0.5)
    with VideoReader(source) as reader, VideoReader(clip.path) as recorded:
        expected = reader.to_rgb(next(reader.frames())).astype(int)
        found = recorded.to_rgb(next(recorded.frames())).astype(int)
    assert found.shape == (96, 64, 3)
    for row in (16, 80):
        for column in (16, 48):
            np.testing.assert_allclose(found[row, column], expected[row, column], atol=4)


@pytest.mark.parametrize("size_px", [(63, 95), (64, 96)])
def test_odd_sizes_lose_one_line(size_px: tuple[int, int], make_clip: MakeClip, tmp_path: Path) -> None:
    images = [np.full((*size_px, 3), 90, np.uint8)] * 4
    device = find_device(str(make_clip("odd.mkv", images=images, codec="ffv1", pix_fmt="yuv444p")))
    clip = record_clip(device, tmp_path, "a", seconds=0.2)
    assert check_device(find_device(str(clip.path))) == (size_px[1] // 2 * 2, size_px[0] // 2 * 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_clip_is_gone(error: type[BaseException], make_clip: MakeClip, tmp_path: Path) -> None:
    def stop(time_s: float) -> None:
        if time_s > 0.5:
            raise error

    device = find_device(str(make_clip(count=30)))
    with pytest.raises(error):
        record_clip(device, tmp_path / "out", "a", seconds=2.0, on_time=stop)
    assert list((tmp_path / "out" / "a").iterdir()) == []


def test_a_file_that_is_too_short_is_told(make_clip: MakeClip, tmp_path: Path) -> None:
    device = find_device(str(make_clip(count=8)))
    with pytest.raises(MediaError, match=r"ended after 0\.8 of 2 s; this clip is not kept; take a longer file"):
        record_clip(device, tmp_path / "out", "a", seconds=2.0)
    assert list((tmp_path / "out" / "a").iterdir()) == []


def test_a_file_gives_as_many_clips_as_it_holds(make_clip: MakeClip, tmp_path: Path) -> None:
    device = find_device(str(make_clip(count=20)))
    clips = [record_clip(device, tmp_path, "a", seconds=1.0, after_s=start_s) for start_s in (0.0, 1.0)]
    assert [(clip.path.name, clip.frame_count) for clip in clips] == [("a-001.mp4", 10), ("a-002.mp4", 10)]
    with pytest.raises(MediaError, match=r"ended after 0\.0 of 1 s"):
        record_clip(device, tmp_path, "a", seconds=1.0, after_s=2.0)


@pytest.fixture
def stream(make_clip: MakeClip) -> bytes:
    return make_clip("camera.ts", count=60, rate=10, options={"g": "5", "tune": "zerolatency"}).read_bytes()


def test_a_network_camera_is_recorded(stream: bytes, read_number: ReadNumber, tmp_path: Path) -> None:
    with network_camera(stream * 6) as address:
        clip = record_clip(find_device(address), tmp_path, "a", seconds=0.3)
    seen = [number for _, number in numbers(clip.path, read_number)]
    assert len(seen) == clip.frame_count > 0
    assert set(seen) <= set(range(60))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"status": "401 Unauthorized"}, "it refuses user and password; .* VISIONYARD_DEVICE", id="401"),
        pytest.param({"status": "404 Not Found"}, "it cannot be read", id="404"),
        pytest.param({"is_silent": True}, r"it did not answer for 0\.5 s", id="silent"),
    ],
)
def test_a_network_camera_that_refuses_is_told_without_its_password(
    options: dict[str, object], message: str, stream: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "ANSWER_TIMEOUT_S", 0.5)
    with network_camera(stream, **options) as address:
        with pytest.raises(MediaError, match=rf"^rtsp://127\.0\.0\.1:\d+/live: {message}") as caught:
            record_clip(find_device(address), tmp_path, "a", seconds=1.0)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert list((tmp_path / "a").iterdir()) == []


def test_a_network_camera_that_breaks_off_is_told(
    stream: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "ANSWER_TIMEOUT_S", 1.0)
    with network_camera(stream) as address, pytest.raises(MediaError, match="is not kept; is it still plugged in"):
        record_clip(find_device(address), tmp_path, "a", seconds=60.0)
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (av.error.FileNotFoundError(2, "No such file"), "no such camera; plug it in, or name one of those there are"),
        (av.error.PermissionError(13, "denied"), r"may not open it; join the group video \(sudo usermod"),
        (av.error.FFmpegError(16, "busy"), "another program uses it"),
        (av.error.OSError(5, "input/output error"), "it is gone; is it still plugged in"),
        (av.error.FFmpegError(19, "no such device"), "it is gone"),
    ],
)
def test_what_a_camera_answers_is_explained(
    error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(address: str, mode: str = "r", **options: object) -> object:
        if address == "/dev/video9":
            raise error
        return opened(address, mode, **options)

    opened = av.open
    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(MediaError, match=f"^/dev/video9: .*{message}"):
        check_device(find_device("9", platform="linux"))
