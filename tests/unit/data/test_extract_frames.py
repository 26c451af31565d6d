"""From a sources folder to a frames folder: items, labels of frames, bad clips, same bytes."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.clips import write_clip
from visionyard.atomic import write_atomic
from visionyard.data.artifacts import CLIPS, IMAGES, SHARDS, read_manifest, read_problems, write_manifest
from visionyard.data.clip_results import ClipResults, Packed
from visionyard.data.extract_frames import Workers, extract_frames
from visionyard.data.items import Box, Clip, Item, Track, TrackShape, read_json_lines, write_json_lines
from visionyard.data.shards import ShardWriter, read_blob
from visionyard.data.tracks import boxes_at
from visionyard.digests import digest_of_folder, sha256_bytes
from visionyard.errors import ArtifactError, ConfigError, DataError
from visionyard.stage_resources import StageResources
from visionyard.transforms import decode_image

# Our own decoder process, but a clip named after a way to die dies that way.
MORTAL = """
import os, sys, time
from visionyard.video import _child
extract = _child.extract_clip
def mortal(*args, name, **options):
    if "abort" in name: os.abort()
    if "hang" in name: time.sleep(60)
    return extract(*args, name=name, **options)
_child.extract_clip = mortal
_child.main()
"""
MORTAL_COMMAND = [sys.executable, "-c", MORTAL, str(4 << 30)]

# Our own decoder process, which writes down what it is asked for; a clip named "hang" hangs while a file lies there.
TELLING = """
import sys, time
from pathlib import Path
from visionyard.video import _child
log, hold = Path(sys.argv[2]), Path(sys.argv[3])
extract = _child.extract_clip
def telling(*args, name, **options):
    with log.open("a") as stream: stream.write(name + "\\n")
    while "hang" in name and hold.exists(): time.sleep(0.05)
    return extract(*args, name=name, **options)
_child.extract_clip = telling
_child.main()
"""
# The digest of the code is fixed: somebody may be editing it while the tests run.
EXTRACTING = """
import sys
from pathlib import Path
from visionyard.data import extract_frames as module
module.code_digest = lambda: "code"
sources, target, *command = sys.argv[1:]
module.extract_frames(Path(sources), Path(target), rate_hz=5.0, shard_bytes=20_000, decoder_command=command)
"""


def lightening_clip(path: Path, *, count: int = 10, shade: int = 40) -> Path:
    """Encode a 64x48 clip of 10 Hz that becomes lighter from frame to frame."""
    images = (np.full((48, 64, 3), shade + 5 * number, np.uint8) for number in range(count))
    return write_clip(path, images, container_format="matroska")


def write_sources(folder: Path, clips: Iterable[tuple[str, Path | bytes, dict[str, object]]]) -> Path:
    """Write the artifact that ingest would have made of (source, file, fields of the clip)."""
    lines = []
    with ShardWriter(folder / SHARDS, "sources") as shards:
        for source, content, fields in clips:
            data = content if isinstance(content, bytes) else content.read_bytes()
            values = {"group": source, "media_type": "video/x-matroska", **fields}
            blob = shards.add(source, data)
            lines.append(Clip(source=source, sha256=sha256_bytes(data), blob=blob, **values).to_json())
    write_json_lines(folder / CLIPS, lines)
    write_manifest(folder, "sources", {"digest": "of the sources"})
    return folder


def read_items(folder: Path) -> list[Item]:
    return [Item.from_json(values) for values in read_json_lines(folder / IMAGES)]


@pytest.fixture
def two_clips(tmp_path: Path) -> Path:
    tracks = (Track("ball", (TrackShape(2, (0, 0, 10, 10)), TrackShape(6, (40, 0, 50, 10)))),)
    return write_sources(
        tmp_path / "sources",
        [
            ("cat/a.mkv", lightening_clip(tmp_path / "a.mkv"), {"class_name": "cat", "published_split": "train"}),
            ("b.mkv", lightening_clip(tmp_path / "b.mkv", count=20, shade=90), {"group": "scene", "tracks": tracks}),
        ],
    )


def test_items_carry_what_is_known_of_their_clip(two_clips: Path, tmp_path: Path) -> None:
    report = extract_frames(two_clips, tmp_path / "frames", rate_hz=2.0)
    items = read_items(tmp_path / "frames")
    assert [item.key for item in items] == [
        *("cat-a-mkv-000000", "cat-a-mkv-000005"),
        *("b-mkv-000000", "b-mkv-000005", "b-mkv-000010", "b-mkv-000015"),
    ]
    assert [(item.source, item.group, item.class_name, item.published_split) for item in items[1:3]] == [
        ("cat/a.mkv", "cat/a.mkv", "cat", "train"),
        ("b.mkv", "scene", None, None),
    ]
    assert [item.timestamp_s for item in items] == [0.0, 0.5, 0.0, 0.5, 1.0, 1.5]
    assert [item.boxes for item in items[:4]] == [None, None, (), (Box("ball", (30.0, 0.0, 40.0, 10.0)),)]
    assert (report.clip_count, report.frame_count, report.skipped_count, report.problem_count) == (2, 6, 0, 0)
    assert json.loads(json.dumps(report.metadata()))["frame_count"] == 6


def test_images_are_those_frames(two_clips: Path, tmp_path: Path) -> None:
    extract_frames(two_clips, tmp_path / "frames", rate_hz=2.0)
    for item, shade in zip(read_items(tmp_path / "frames"), (40, 65, 90, 115, 140, 165)):
        data = read_blob(tmp_path / "frames" / SHARDS, item.blob)
        assert sha256_bytes(data) == item.sha256
        image = decode_image(data)
        assert image.shape == (item.height, item.width, 3) == (48, 64, 3)
        np.testing.assert_allclose(image, shade, atol=3)


def test_the_manifest_holds_settings_and_counts(two_clips: Path, tmp_path: Path) -> None:
    report = extract_frames(two_clips, tmp_path / "frames", rate_hz=2.0, max_per_clip=1, jpeg_quality=80)
    manifest = read_manifest(tmp_path / "frames", "frames")
    assert manifest["settings"] == {
        "rate_hz": 2.0,
        "max_per_clip": 1,
        "drop_blurred": False,
        "drop_similar": False,
        "jpeg_quality": 80,
    }
    assert (manifest["frame_count"], manifest["digest"]) == (2, report.digest)
    assert manifest["sources_digest"] == "of the sources"


def test_same_input_same_bytes(two_clips: Path, tmp_path: Path) -> None:
    first = extract_frames(two_clips, tmp_path / "first", rate_hz=5.0)
    second = extract_frames(two_clips, tmp_path / "second", rate_hz=5.0)
    assert first == second
    assert digest_of_folder(tmp_path / "first") == digest_of_folder(tmp_path / "second")
    assert extract_frames(two_clips, tmp_path / "third", rate_hz=4.0).digest != first.digest


def test_a_killed_try_leaves_nothing_behind(two_clips: Path, tmp_path: Path) -> None:
    leftover = tmp_path / ".frames.partial" / "scratch"
    leftover.mkdir(parents=True)
    (leftover / "0-clip").write_bytes(b"half a clip")
    extract_frames(two_clips, tmp_path / "frames", rate_hz=2.0)
    assert not leftover.parent.exists()
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [
        *("images.jsonl", "manifest.json", "problems.jsonl", "shards"),
    ]


@pytest.fixture
def five_clips(tmp_path: Path) -> Path:
    names = ["a.mkv", "b.mkv", "c.mkv", "text.mkv", "z-hang.mkv"]
    clips = [lightening_clip(tmp_path / name, count=30, shade=20 + 15 * number) for number, name in enumerate(names)]
    clips[3].write_bytes(b"no video at all")
    return write_sources(tmp_path / "sources", [(name, clip, {}) for name, clip in zip(names, clips)])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_after_a_kill_the_clips_that_were_done_are_not_decoded_again(five_clips: Path, tmp_path: Path) -> None:
    log, hold = tmp_path / "log", tmp_path / "hold"
    hold.touch()
    command = [sys.executable, "-c", TELLING, str(4 << 30), str(log), str(hold)]
    extracting = [sys.executable, "-c", EXTRACTING, str(five_clips), str(tmp_path / "frames"), *command]
    with subprocess.Popen(extracting) as process:
        results = tmp_path / ".frames.partial" / "clips"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(results.glob("*.json"))) + ("hang" in _text(log)) < 5:
            time.sleep(0.05)
        process.kill()
    assert sorted(log.read_text().split()) == ["a.mkv", "b.mkv", "c.mkv", "text.mkv", "z-hang.mkv"]
    assert not (tmp_path / "frames").exists()
    hold.unlink()
    subprocess.run(extracting, check=True)
    assert log.read_text().split()[5:] == ["z-hang.mkv"]
    extract_frames(five_clips, tmp_path / "whole", rate_hz=5.0, shard_bytes=20_000)
    assert digest_of_folder(tmp_path / "frames") == digest_of_folder(tmp_path / "whole")
    assert [problem.file for problem in read_problems(tmp_path / "frames")] == ["text.mkv"]
    assert len(list((tmp_path / "frames" / SHARDS).iterdir())) > 2
    assert not results.parent.exists()


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 4, 6, 7, 9])
def test_it_goes_on_wherever_it_ended(
    at: int, is_done: bool, five_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results and closed shards are noted one after another: it ends before or after one of these notes."""
    expected = extract_frames(five_clips, tmp_path / "whole", rate_hz=5.0, shard_bytes=9_000)
    notes = 0

    def write_then_die(path: Path, data: str) -> None:
        nonlocal notes
        notes += 1
        if notes != at or is_done:
            write_atomic(path, data)
        if notes == at:
            raise KeyboardInterrupt

    monkeypatch.setattr("visionyard.data.clip_results.write_atomic", write_then_die)
    with pytest.raises(KeyboardInterrupt):
        extract_frames(five_clips, tmp_path / "frames", rate_hz=5.0, shard_bytes=9_000)
    monkeypatch.undo()
    assert extract_frames(five_clips, tmp_path / "frames", rate_hz=5.0, shard_bytes=9_000) == expected
    assert digest_of_folder(tmp_path / "frames") == digest_of_folder(tmp_path / "whole")


@pytest.mark.parametrize("left", [1, 4, 12])
def test_it_goes_on_when_it_ended_among_its_last_steps(
    left: int, five_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept for another try is removed file by file: it ends before one of the last."""
    unlink, removed, last = os.unlink, 0, -1

    def remove(*arguments: Any, **options: Any) -> None:
        nonlocal removed
        removed += 1
        if removed == last:
            raise KeyboardInterrupt
        unlink(*arguments, **options)

    monkeypatch.setattr(os, "unlink", remove)
    expected = extract_frames(five_clips, tmp_path / "whole", rate_hz=5.0, shard_bytes=9_000)
    removed, last = 0, removed - left + 1
    with pytest.raises(KeyboardInterrupt):
        extract_frames(five_clips, tmp_path / "frames", rate_hz=5.0, shard_bytes=9_000)
    assert extract_frames(five_clips, tmp_path / "frames", rate_hz=5.0, shard_bytes=9_000) == expected
    assert digest_of_folder(tmp_path / "frames") == digest_of_folder(tmp_path / "whole")


def test_a_shard_is_on_disk_before_what_it_was_made_of_goes(
    five_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    note = ClipResults.note_packed

    def note_and_tell(results: ClipResults, packed: Packed) -> None:
        steps.append(f"{packed.shard_count} noted")
        note(results, packed)

    monkeypatch.setattr("visionyard.data.frame_packing.flush_to_disk", lambda path: steps.append(path.name))
    monkeypatch.setattr(ClipResults, "note_packed", note_and_tell)
    extract_frames(five_clips, tmp_path / "frames", rate_hz=5.0, shard_bytes=9_000)
    assert len(steps) % 3 == 0 and len(steps) > 6
    for number in range(len(steps) // 3):
        name = f"frames-{number:05d}"
        assert steps[3 * number : 3 * number + 3] == [f"{name}.jsonl", f"{name}.tar", f"{number + 1} noted"]


def test_what_was_lost_with_the_power_is_decoded_again(
    five_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = extract_frames(five_clips, tmp_path / "frames", rate_hz=5.0)
    shutil.rmtree(tmp_path / "frames")
    log, work = tmp_path / "log", tmp_path / ".frames.partial"
    command = [sys.executable, "-c", TELLING, str(4 << 30), str(log), str(tmp_path / "hold")]

    def stop(done: int, *_: object, **__: object) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("visionyard.data.extract_frames.events.progress", stop)
        extract_frames(five_clips, tmp_path / "frames", rate_hz=5.0)
    images = work / "clips" / "000001.images"
    images.write_bytes(bytes(images.stat().st_size))
    asked: list[int] = []
    for_clips = Workers.for_clips
    monkeypatch.setattr(Workers, "for_clips", lambda clip_count: asked.append(clip_count) or for_clips(clip_count))
    assert extract_frames(five_clips, tmp_path / "frames", rate_hz=5.0, decoder_command=command) == expected
    assert log.read_text().split() == ["b.mkv"]
    assert asked == [1]  # all cores are for it


def test_another_rate_does_not_go_on_with_the_frames_of_the_first(
    five_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visionyard.data.extract_frames.FramePacker.finish", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract_frames(five_clips, tmp_path / "frames", rate_hz=5.0)
    monkeypatch.undo()
    report = extract_frames(five_clips, tmp_path / "frames", rate_hz=1.0)
    assert report.frame_count == 4 * 3


def test_scratch_may_lie_elsewhere(two_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONYARD_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr("visionyard.data.extract_frames.FramePacker.finish", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract_frames(two_clips, tmp_path / "try-1" / "frames", rate_hz=2.0)
    monkeypatch.undo()
    monkeypatch.setenv("VISIONYARD_SCRATCH", str(tmp_path / "scratch"))
    target = tmp_path / "try-2" / "frames"
    assert extract_frames(two_clips, target, rate_hz=2.0, decoder_command=["/does/not/exist"]).frame_count == 6
    assert read_manifest(target, "frames")["frame_count"] == 6
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    ("clip_count", "cpu_count", "memory_gib", "expected"),
    [
        pytest.param(1, 8.0, 0, (1, 8), id="one clip takes all cores"),
        pytest.param(100, 8.0, 0, (8, 2), id="a process a core"),
        pytest.param(3, 8.0, 0, (3, 2), id="few clips"),
        pytest.param(100, 8.0, 4, (2, 4), id="little memory"),
        pytest.param(100, 1.0, 0, (1, 1), id="one core"),
        pytest.param(100, 0.5, 1, (1, 1), id="less than one core"),
        pytest.param(0, 4.0, 0, (1, 4), id="no clips"),
    ],
)
def test_processes_follow_cores_clips_and_memory(
    clip_count: int, cpu_count: float, memory_gib: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = StageResources(cpu_count=cpu_count, memory_bytes=memory_gib << 30)
    monkeypatch.setattr("visionyard.data.extract_frames.held_resources", lambda: held)
    workers = Workers.for_clips(clip_count)
    assert (workers.process_count, workers.thread_count) == expected


def test_no_clips_make_a_valid_empty_folder(tmp_path: Path) -> None:
    sources = write_sources(tmp_path / "sources", [])
    report = extract_frames(sources, tmp_path / "frames", rate_hz=2.0, decoder_command=["/does/not/exist"])
    assert (report.clip_count, report.frame_count) == (0, 0)
    assert read_items(tmp_path / "frames") == []
    assert read_manifest(tmp_path / "frames", "frames")["clip_count"] == 0


def test_bad_clips_are_left_out_and_told(tmp_path: Path) -> None:
    good = lightening_clip(tmp_path / "good.mkv")
    sources = write_sources(
        tmp_path / "sources",
        [
            ("abort.mkv", good, {}),
            ("empty.mkv", b"", {}),
            ("good.mkv", good, {}),
            ("hang.mkv", good, {}),
            ("text.mkv", b"no video at all", {}),
        ],
    )
    report = extract_frames(sources, tmp_path / "frames", rate_hz=2.0, decoder_command=MORTAL_COMMAND, timeout_s=2.0)
    assert (report.clip_count, report.skipped_count, report.frame_count) == (5, 4, 2)
    assert {item.source for item in read_items(tmp_path / "frames")} == {"good.mkv"}
    problems = read_problems(tmp_path / "frames")
    assert [(problem.file, problem.code) for problem in problems] == [
        ("abort.mkv", "clip_crashed_decoder"),
        ("empty.mkv", "clip_undecodable"),
        ("hang.mkv", "clip_crashed_decoder"),
        ("text.mkv", "clip_undecodable"),
    ]
    assert "SIGABRT" in problems[0].message
    assert problems[1].message.startswith("the file is empty")
    assert read_manifest(tmp_path / "frames", "frames")["problem_counts"] == {
        "clip_crashed_decoder": 2,
        "clip_undecodable": 2,
    }


def test_when_no_clip_can_be_decoded_nothing_is_written(tmp_path: Path) -> None:
    sources = write_sources(tmp_path / "sources", [(f"{n:02d}.mkv", b"", {}) for n in range(12)])
    with pytest.raises(DataError, match=r"none of the 12 clips[^$]*00.mkv: the file is empty[^$]*and 2 more"):
        extract_frames(sources, tmp_path / "frames", rate_hz=2.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sources"]


def test_annotations_beyond_the_clip_are_told(tmp_path: Path) -> None:
    tracks = (Track("ball", (TrackShape(0, (0, 0, 9, 9)), TrackShape(30, (0, 0, 9, 9)))),)
    sources = write_sources(tmp_path / "sources", [("a.mkv", lightening_clip(tmp_path / "a.mkv"), {"tracks": tracks})])
    extract_frames(sources, tmp_path / "frames", rate_hz=2.0)
    (problem,) = read_problems(tmp_path / "frames")
    assert problem.code == "annotation_beyond_clip"
    assert "up to 30, but the clip has frames 0 to 9" in problem.message


def test_clips_whose_names_differ_in_signs_only_have_keys_of_their_own(tmp_path: Path) -> None:
    clip = lightening_clip(tmp_path / "a.mkv", count=1)
    names = ["a b.mkv", "a-b.mkv", "видео.mkv", "動画.mkv", f"{'x' * 200}.mkv", "plain.mkv"]
    sources = write_sources(tmp_path / "sources", [(name, clip, {}) for name in names])
    extract_frames(sources, tmp_path / "frames", rate_hz=2.0)
    keys = [item.key for item in read_items(tmp_path / "frames")]
    assert len(set(keys)) == len(names)
    assert keys[-1] == "plain-mkv-000000"
    assert all(key.replace("-", "").replace("_", "").isalnum() and key.isascii() and len(key) < 110 for key in keys)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate_hz": 0.0}, "rate_hz: expected a number above 0, got 0.0"),
        ({"rate_hz": float("nan")}, "rate_hz: expected a number above 0, got nan"),
        ({"rate_hz": 1.0, "max_per_clip": -1}, "max_per_clip: expected 0 or more, got -1"),
        ({"rate_hz": 1.0, "jpeg_quality": 101}, "jpeg_quality: expected 50 to 100, got 101"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        extract_frames(tmp_path, tmp_path / "frames", **settings)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"{tmp_path}: expected a sources folder"):
        extract_frames(tmp_path, tmp_path / "frames", rate_hz=1.0)


MOVING = (TrackShape(10, (0, 0, 10, 20)), TrackShape(20, (20, 40, 40, 60)))
LEAVING = (TrackShape(10, (4, 4, 8, 8)), TrackShape(15, (90, 90, 99, 99), is_outside=True))
RETURNING = (*LEAVING, TrackShape(20, (1, 1, 5, 5)))


@pytest.mark.parametrize(
    ("shapes", "frame_index", "expected"),
    [
        pytest.param(MOVING, 9, None, id="before the first shape"),
        pytest.param(MOVING, 10, (0, 0, 10, 20), id="at a shape"),
        pytest.param(MOVING, 15, (10, 20, 25, 40), id="half way"),
        pytest.param(MOVING, 13, (6, 12, 19, 32), id="three tenths"),
        pytest.param(MOVING, 20, (20, 40, 40, 60), id="at the last shape"),
        pytest.param(MOVING, 99, (20, 40, 40, 60), id="held after the last shape"),
        pytest.param(MOVING[::-1], 15, (10, 20, 25, 40), id="shapes in any order"),
        pytest.param(LEAVING, 14, (4, 4, 8, 8), id="held until it leaves"),
        pytest.param(LEAVING, 15, None, id="leaves"),
        pytest.param(LEAVING, 99, None, id="stays away"),
        pytest.param(RETURNING, 19, None, id="not yet back"),
        pytest.param(RETURNING, 20, (1, 1, 5, 5), id="back"),
        pytest.param((TrackShape(0, (-5, 70, 30, 130)),), 0, (0, 70, 30, 100), id="cut at the edge"),
        pytest.param((TrackShape(0, (100, 0, 130, 20)),), 0, None, id="beyond the edge"),
        pytest.param((), 0, None, id="no shapes"),
    ],
)
def test_boxes_of_a_frame(shapes: tuple[TrackShape, ...], frame_index: int, expected: tuple[float, ...] | None) -> None:
    boxes = boxes_at([Track("ball", shapes)], frame_index, width=100, height=100)
    assert boxes == (() if expected is None else (Box("ball", tuple(map(float, expected))),))


def test_real_clips_survive_a_file_that_aborts_other_decoders(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shared_data("videos")
    names = ["defective/demo.avi", "defective/tree.avi", "person/worker-zone-detection.gif", "signing/bird.mkv"]
    sources = write_sources(tmp_path / "sources", [(name, folder / name, {}) for name in names])
    extract_frames(sources, tmp_path / "frames", rate_hz=240.0, jpeg_quality=50)
    counts = Counter(item.source for item in read_items(tmp_path / "frames"))
    assert [counts[name] for name in names] == [51, 68, 71, 63]
    assert [(problem.file, problem.code) for problem in read_problems(tmp_path / "frames")] == [
        ("defective/tree.avi", "clip_frames_missing")
    ]
