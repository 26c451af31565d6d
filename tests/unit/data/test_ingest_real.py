"""Real data sets, against the counts that their own documents state."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from visionyard.data.artifacts import read_manifest
from visionyard.data.ingest import ingest
from visionyard.data.items import Clip, Item, read_json_lines

SharedData = Callable[[str], Path]


def items(folder: Path) -> list[Item]:
    return [Item.from_json(values) for values in read_json_lines(folder / "images.jsonl")]


def box_counts(found: list[Item]) -> dict[str, int]:
    return dict(Counter(box.class_name for item in found for box in item.boxes or ()))


def test_bccd(shared_data: SharedData, tmp_path: Path) -> None:
    report = ingest(str(shared_data("bccd")), tmp_path / "out")
    found = items(tmp_path / "out")
    assert (report.kind, report.image_count, report.classes) == ("images_voc", 364, ("Platelets", "RBC", "WBC"))
    assert read_manifest(tmp_path / "out", "sources")["problem_counts"] == {"box_without_area": 2}
    # The two boxes without area are both of red cells.
    assert box_counts(found) == {"RBC": 4155 - 2, "WBC": 372, "Platelets": 361}
    assert Counter(item.published_split for item in found) == {"train": 205, "val": 87, "test": 72}
    assert {(item.width, item.height) for item in found} == {(640, 480)}


def test_cones_and_cubes(shared_data: SharedData, tmp_path: Path) -> None:
    pattern = r"/(WIN_\d+_\d+_\d+_\d+_Pro)_mp4"
    report = ingest(str(shared_data("cones-and-cubes")), tmp_path / "out", group_pattern=pattern)
    found = items(tmp_path / "out")
    assert (report.kind, report.problem_count, report.classes) == ("images_yolo", 0, ("cone", "cube"))
    assert box_counts(found) == {"cone": 694, "cube": 406}
    assert Counter(item.published_split for item in found) == {"train": 294, "val": 124, "test": 63}
    assert sorted(Counter(item.group for item in found).values()) == [14, 30, 50, 75, 102, 210]


def test_trashnet(shared_data: SharedData, tmp_path: Path) -> None:
    report = ingest(str(shared_data("trashnet-mini")), tmp_path / "out")
    names = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    assert (report.kind, report.problem_count, report.classes) == ("images_by_class", 0, names)
    assert Counter(item.class_name for item in items(tmp_path / "out")) == dict.fromkeys(names, 45)


def test_videos(shared_data: SharedData, tmp_path: Path) -> None:
    report = ingest(str(shared_data("videos")), tmp_path / "out")
    clips = [Clip.from_json(values) for values in read_json_lines(tmp_path / "out" / "clips.jsonl")]
    assert (report.kind, report.clip_count, report.problem_count) == ("clips_by_class", 24, 0)
    assert Counter(clip.class_name for clip in clips) == {
        "bottle": 1,
        "car": 3,
        "defective": 2,
        "person": 3,
        "signing": 15,
    }
    assert Counter(clip.media_type for clip in clips) == {
        "video/mp4": 3,
        "video/x-msvideo": 5,
        "video/x-matroska": 15,
        "image/gif": 1,
    }
