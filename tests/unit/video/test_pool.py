"""Decoder processes that abort, hang, starve or never start."""

import errno
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from visionyard.errors import VisionyardError
from visionyard.video.pool import DecoderPool, Outcome, Request, default_command
from visionyard.video.records import ExtractionSettings

SETTINGS = ExtractionSettings(rate_hz=2.0)
# A decoder process that does as the clip's name says.
ACTOR = """
import fcntl, json, os, sys, time
def answer(kind, **values):
    sys.stdout.write(json.dumps({"kind": kind, **values}) + "\\n"); sys.stdout.flush()
answer("ready")
for line in sys.stdin:
    request = json.loads(line)
    name = request["name"]
    if name == "abort":
        sys.stderr.write("free(): invalid size at 0x55ae\\n"); sys.stderr.flush(); os.abort()
    if name == "abort once" and not os.path.exists(request["path"]):
        open(request["path"], "w").close(); os.abort()
    if name.startswith("big"):  # there is memory for one of them
        memory = open(os.path.join(os.path.dirname(request["path"]), "memory"), "w")
        try:
            fcntl.flock(memory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.abort()
        time.sleep(0.7); memory.close()
    if name == "exit":
        sys.exit(3)
    if name == "hang":
        time.sleep(60)
    if name == "slow":
        for count in range(6):
            time.sleep(0.1); answer("progress", frame_count=count)
    if name == "hungry":
        answer("out_of_memory", message="decoding it takes more than 6 GiB of memory"); continue
    if name == "unreadable":
        answer("unreadable", message="not a video"); continue
    if name == "full":
        answer("os_error", errno=28, message="No space left on device"); continue
    answer("done", frames=[], frame_count=7, decoded_count=7, blurred_count=0, similar_count=0, complaints=[])
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., list[Outcome]]:
    def run_names(*names: str, worker_count: int = 2, **options: object) -> list[Outcome]:
        requests = (Request(name, tmp_path / name, tmp_path / f"{name} images", SETTINGS) for name in names)
        with DecoderPool(worker_count, command=[sys.executable, "-S", "-c", ACTOR], **options) as pool:
            return list(pool.run(requests))

    return run_names


def test_outcomes_keep_their_order(run: Callable[..., list[Outcome]]) -> None:
    seen: list[tuple[str, int]] = []
    outcomes = run("slow", "a", "b", "c", "d", "e", "f", on_progress=lambda *told: seen.append(told))
    assert [outcome.request.name for outcome in outcomes] == ["slow", "a", "b", "c", "d", "e", "f"]
    assert all(outcome.extraction is not None and outcome.extraction.decoded_count == 7 for outcome in outcomes)
    assert seen == [("slow", count) for count in range(6)]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        pytest.param(
            "abort", "clip_crashed_decoder", r"ended by SIGABRT \(free\(\): invalid size at 0x\.\.\.\)", id="abort"
        ),
        pytest.param("exit", "clip_crashed_decoder", "exited with 3, at 2 attempts", id="exit"),
        pytest.param("hang", "clip_crashed_decoder", "no frame was decoded for 0.6 s", id="hang"),
        pytest.param("hungry", "clip_crashed_decoder", "takes more than 6 GiB of memory", id="memory"),
        pytest.param("unreadable", "clip_undecodable", "^not a video$", id="no video"),
    ],
)
def test_a_clip_that_fails_takes_no_other_along(
    name: str, code: str, message: str, run: Callable[..., list[Outcome]]
) -> None:
    outcomes = run("before", name, "after", "last", timeout_s=0.6)
    assert [outcome.code for outcome in outcomes] == ["", code, "", ""]
    assert outcomes[1].extraction is None
    assert re.search(message, outcomes[1].message)


def test_a_crash_that_does_not_come_again_costs_nothing(run: Callable[..., list[Outcome]]) -> None:
    outcomes = run("abort once", "after", worker_count=1)
    assert [outcome.code for outcome in outcomes] == ["", ""]


def test_clips_that_do_not_fit_beside_each_other_are_tried_alone(run: Callable[..., list[Outcome]]) -> None:
    outcomes = run("big 1", "big 2", "big 3", "after", "last")
    assert [(outcome.request.name, outcome.code) for outcome in outcomes] == [
        (name, "") for name in ("big 1", "big 2", "big 3", "after", "last")
    ]


def test_progress_keeps_a_slow_clip_alive(run: Callable[..., list[Outcome]]) -> None:
    started = time.monotonic()
    outcomes = run("slow", worker_count=1, timeout_s=0.4)
    assert time.monotonic() - started > 0.4
    assert outcomes[0].code == ""


def test_a_process_without_work_is_not_waited_for(
    run: Callable[..., list[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    listen, count = DecoderPool._listen, 0

    def listen_and_count(pool: DecoderPool) -> None:
        nonlocal count
        count += 1
        listen(pool)

    monkeypatch.setattr(DecoderPool, "_listen", listen_and_count)
    run("slow", "a", timeout_s=0.4)  # for the last 0.2 s one of them has been silent for longer than that
    assert count < 50


def test_a_full_disk_is_not_the_clip_s_fault(run: Callable[..., list[Outcome]]) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        run("full")
    assert caught.value.errno == errno.ENOSPC


def test_a_process_that_never_starts_is_told() -> None:
    request = Request("clip", Path("clip"), Path("images"), SETTINGS)
    with DecoderPool(1, command=[sys.executable, "-c", "raise SystemExit('no module av')"]) as pool:
        with pytest.raises(VisionyardError, match=r"exited with 1 \(no module av\) before it was ready"):
            list(pool.run([request]))


def test_a_process_that_hangs_before_it_is_ready_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionyard.video.pool.NO_PROGRESS_TIMEOUT_S", 0.3)
    request = Request("clip", Path("clip"), Path("images"), SETTINGS)
    with DecoderPool(1, command=[sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.1) as pool:
        with pytest.raises(VisionyardError, match=r"was not ready within 0\.3 s; check that .* starts"):
            list(pool.run([request]))


def test_a_start_that_takes_long_is_no_fault_of_the_clip(tmp_path: Path) -> None:
    request = Request("clip", tmp_path / "clip", tmp_path / "images", SETTINGS)
    slow = f"import time; time.sleep(0.5)\n{ACTOR}"
    with DecoderPool(1, command=[sys.executable, "-S", "-c", slow], timeout_s=0.2) as pool:
        (outcome,) = pool.run([request])
    assert outcome.code == ""


def test_no_requests_start_no_process() -> None:
    with DecoderPool(1, command=["/does/not/exist"]) as pool:
        assert list(pool.run([])) == []


def test_requests_are_drawn_only_when_needed(tmp_path: Path) -> None:
    drawn: list[int] = []

    def requests() -> object:
        for number in range(20):
            drawn.append(number)
            yield Request("clip", tmp_path / "clip", tmp_path / "images", SETTINGS)

    with DecoderPool(2, command=[sys.executable, "-S", "-c", ACTOR]) as pool:
        outcomes = pool.run(requests())
        next(outcomes)
        assert len(drawn) <= 4


def test_a_wide_window_keeps_the_other_process_busy_beside_a_long_clip(run: Callable[..., list[Outcome]]) -> None:
    finished: list[str] = []
    names = ["slow", *"abcdefgh"]
    outcomes = run(*names, window=9, on_outcome=lambda outcome: finished.append(outcome.request.name))
    assert [outcome.request.name for outcome in outcomes] == names
    assert finished == [*"abcdefgh", "slow"]


def test_an_answer_of_megabytes_arrives_whole(tmp_path: Path) -> None:
    words = "x" * 5_000_000
    actor = ACTOR.replace('message="not a video"', f'message="x" * {len(words)}')
    request = Request("unreadable", tmp_path / "clip", tmp_path / "images", SETTINGS)
    with DecoderPool(1, command=[sys.executable, "-S", "-c", actor]) as pool:
        (outcome,) = pool.run([request])
    assert outcome.message == words


def test_our_own_process_extracts(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    request = Request("clip", make_clip(count=12), tmp_path / "images", SETTINGS)
    empty = Request("empty", tmp_path / "empty", tmp_path / "no images", SETTINGS)
    empty.path.touch()
    with DecoderPool(1) as pool:
        outcomes = list(pool.run([request, empty]))
    assert outcomes[0].extraction is not None
    assert [frame.frame_index for frame in outcomes[0].extraction.frames] == [0, 5, 10]
    assert (outcomes[1].code, outcomes[1].message) == (
        "clip_undecodable",
        "the file is empty (0 bytes); copy or record it again",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which limits memory")
def test_our_own_process_ends_within_its_memory(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    command = [*default_command()[:-1], str(48 << 20)]  # less than the libraries take, once frames are needed
    request = Request("clip", make_clip(count=12), tmp_path / "images", SETTINGS)
    with DecoderPool(1, command=command) as pool:
        (outcome,) = pool.run([request])
    assert outcome.code == "clip_crashed_decoder"


def test_a_request_is_one_line() -> None:
    line = Request("a\nb", Path("clip"), Path("images"), SETTINGS).to_line()
    assert line.count(b"\n") == 1
    assert json.loads(line)["name"] == "a\nb"
