"""The whole stage: from both artifacts to a dataset version."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from errno import ENOSPC
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from visionyard.data import packing
from visionyard.data.artifacts import PROBLEMS, read_problems
from visionyard.data.dataset import DATASET, Dataset
from visionyard.data.items import SPLITS, Problem
from visionyard.data.prepare import DatasetReport, prepare_dataset
from visionyard.data.shards import ShardWriter
from visionyard.errors import ArtifactError, ConfigError, SplitError


def prepare(artifacts: Any, target: Path, **options: Any) -> DatasetReport:
    return prepare_dataset(artifacts.sources, artifacts.frames, target, **options)


def read_info(folder: Path) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((folder / DATASET).read_text(encoding="utf-8"))
    return info


@pytest.fixture
def detection(build_artifacts: Any, image_spec: Any) -> Any:
    """Six clips of five frames: cars in all, buses in three, nothing in some frames."""
    frames = [
        image_spec(
            f"clip{clip}-{frame}",
            group=f"clip{clip}",
            boxes=() if frame == 4 else (("car", (1.5, 2, 20, 30)), *((("bus", (5, 5, 60, 40)),) if clip % 2 else ())),
            timestamp_s=frame / 2,
        )
        for clip in range(6)
        for frame in range(5)
    ]
    return build_artifacts(frames=frames, classes=["car", "bus"])


def test_shards_are_webdataset_samples_with_their_labels(detection: Any, tmp_path: Path) -> None:
    prepare(detection, tmp_path / "dataset", shard_bytes=16_000)
    samples: dict[str, dict[str, bytes]] = {}
    shards = sorted((tmp_path / "dataset" / "shards").iterdir())
    assert len(shards) > 3
    for path in shards:
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            # WebDataset groups neighbours that share the name up to the first dot.
            assert [name.name.split(".")[1] for name in members] == ["jpg", "json"] * (len(members) // 2)
            for member in members:
                key, extension = member.name.split(".")
                stream = tar.extractfile(member)
                assert stream is not None
                samples.setdefault(key, {"split": path.name.split("-")[0].encode()})[extension] = stream.read()
    assert len(samples) == 30
    label = json.loads(samples["clip1-2"]["json"])
    assert label == {
        "class_ids": [0, 1],
        "class_names": ["car", "bus"],
        "boxes": [[1.5, 2.0, 20.0, 30.0], [5.0, 5.0, 60.0, 40.0]],
        "group": "clip1",
        "source": "clip1.mp4",
        "timestamp_s": 1.0,
        "width": 64,
        "height": 48,
        "sha256": sha256(samples["clip1-2"]["jpg"]).hexdigest(),
    }
    assert json.loads(samples["clip1-4"]["json"])["boxes"] == []
    rows = pq.read_table(tmp_path / "dataset" / "index.parquet").to_pylist()
    assert {row["key"]: row["split"].encode() for row in rows} == {key: s["split"] for key, s in samples.items()}


def test_index_has_the_documented_columns_in_order(detection: Any, tmp_path: Path) -> None:
    prepare(detection, tmp_path / "dataset")
    table = pq.read_table(tmp_path / "dataset" / "index.parquet")
    types = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    assert types == {
        **dict.fromkeys(["key", "split", "group", "source", "sha256", "shard", "image_name"], "string"),
        "timestamp_s": "double",
        "width": "int32",
        "height": "int32",
        "class_ids": "list<element: int32>",
        "boxes": "list<element: double>",
        "image_offset": "int64",
        "image_size": "int64",
        "masks": "list<element: string>",
        "is_crowd": "list<element: bool>",
        "mask_offset": "int64",
        "mask_size": "int64",
    }
    rows = [(SPLITS.index(row["split"]), row["key"]) for row in table.to_pylist()]
    assert rows == sorted(rows)


def test_dataset_json_says_what_is_inside(detection: Any, tmp_path: Path) -> None:
    report = prepare(detection, tmp_path / "dataset")
    info = read_info(tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    assert (info["task"], info["classes"], info["digest"]) == ("detection", ["car", "bus"], report.digest)
    assert info["item_counts"] == {split: dataset.count(split) for split in SPLITS} == report.item_counts
    boxes: Counter[tuple[str, str]] = Counter()
    groups: dict[str, set[str]] = {}
    for split in SPLITS:
        for sample in dataset.samples(split):
            boxes.update((split, info["classes"][class_id]) for class_id in sample.class_ids)
            groups.setdefault(sample.group, set()).add(split)
    assert all(len(found) == 1 for found in groups.values())
    counted = {(split, name): n["boxes"] for split, by in info["class_counts"].items() for name, n in by.items()}
    assert counted == dict(boxes)
    assert all(boxes[split, name] > 0 for split in SPLITS for name in ("car", "bus"))
    assert {row["group"]: row["split"] for row in info["groups"]} == {key: min(found) for key, found in groups.items()}
    assert sum(row["count"] for row in info["groups"]) == 30
    assert info["groups_left_out"] == 0
    assert info["health"]["background_count"] == 6
    assert info["splitting"] == {
        "mode": "group",
        "val_fraction": 0.15,
        "test_fraction": 0.2,
        "seed": 0,
        "folds": 0,
        "fold": 0,
        "group_by": "clip",
        "near_duplicates": "group",
    }
    assert info["leak"]["is_leaky"] is dataset.is_leaky is False
    assert set(info["lineage"]) == {"sources", "frames"}
    assert json.loads(json.dumps(report.metadata()))["digest"] == report.digest


def test_same_content_gives_the_same_bytes_whatever_the_order(
    build_artifacts: Any, clips: Any, image_spec: Any, tmp_path: Path
) -> None:
    frames = [*clips("car", 4), *clips("dog", 4)]
    copies = [image_spec("car-0-0-copy", group="car/0", class_name="car", data=frames[0].encoded())]
    one = build_artifacts(frames=[*frames, *copies], name="one")
    two = build_artifacts(frames=[*copies, *frames[::-1]], name="two")
    first, second = prepare(one, tmp_path / "a"), prepare(two, tmp_path / "b")
    assert first.digest == second.digest
    for name in ["index.parquet", *(f"shards/{split}-00000.tar" for split in SPLITS)]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again = prepare(one, tmp_path / "c")
    for path in sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "c" / path.relative_to(tmp_path / "a")).read_bytes()
    assert again == first


@pytest.mark.parametrize(
    "change", ["pixel", "label", "class order", "group"], ids=lambda change: change.replace(" ", "-")
)
def test_other_content_gives_another_digest(change: str, build_artifacts: Any, clips: Any, tmp_path: Path) -> None:
    frames = [*clips("car", 4), *clips("dog", 4)]
    before = prepare(build_artifacts(frames=frames, name="before"), tmp_path / "a").digest
    classes = ["dog", "car"] if change == "class order" else None
    if change == "pixel":
        frames[0].seed = 12345
    if change == "label":
        frames[0].class_name = "dog"
    if change == "group":
        for frame in frames[:4]:
            frame.group = "car/other"
    after = prepare(build_artifacts(frames=frames, classes=classes, name="after"), tmp_path / "b").digest
    assert before != after


def test_problems_of_all_stages_come_together(
    build_artifacts: Any, clips: Any, image_spec: Any, tmp_path: Path
) -> None:
    artifacts = build_artifacts(
        [image_spec("loose")],
        frames=[*clips("car", 5), *clips("dog", 5)],
        problems=[Problem("unreadable_video", "car/x.mp4", "it is empty")],
        frame_problems=[Problem("frame_lost", "car/0.mp4", "cannot be decoded", "1.000 s")],
    )
    report = prepare(artifacts, tmp_path / "dataset")
    found = read_problems(tmp_path / "dataset")
    assert [problem.code for problem in found] == ["unreadable_video", "frame_lost", "image_without_labels"]
    health = read_info(tmp_path / "dataset")["health"]
    assert health["problems"] == {"frame_lost": 1, "image_without_labels": 1, "unreadable_video": 1}
    assert health["problem_count"] == report.problem_count == 3
    assert health["unlabelled_count"] == 1


def test_identical_images_join_their_clips(build_artifacts: Any, clips: Any, tmp_path: Path) -> None:
    frames = [*clips("car", 5), *clips("dog", 5)]
    for clip in (1, 2):  # clips 0, 1 and 2 of the cars share a frame; clip 1 shares one with a dog's
        frames[clip * 4].seed = frames[0].seed = 7
    frames[4 + 1].seed = frames[20].seed = 8
    for seed in range(4):
        prepare(build_artifacts(frames=frames, name=f"in{seed}"), tmp_path / f"d{seed}", split_seed=seed)
        info = read_info(tmp_path / f"d{seed}")
        splits = {row["group"]: row["split"] for row in info["groups"]}
        assert len({splits[group] for group in ("car/0", "car/1", "car/2", "dog/0")}) == 1
        assert info["leak"]["identical_images"] == 0
        assert info["health"]["problems"]["duplicate_image"] == 2
        assert info["health"]["problems"]["conflicting_labels"] == 1


def test_a_published_split_by_frame_is_kept_and_certified_as_leaky(
    build_artifacts: Any, clips: Any, tmp_path: Path
) -> None:
    frames = [*clips("car", 3, 10), *clips("dog", 3, 10)]
    for number, frame in enumerate(frames):
        frame.published_split = ("train", "train", "train", "val", "test")[number % 5]
    frames[4].seed = frames[0].seed = 5  # the same image in test and train
    artifacts = build_artifacts(frames=frames)
    report = prepare(artifacts, tmp_path / "published", split_mode="published")
    assert (report.is_leaky, report.group_overlap, report.identical_images) == (True, 6, 1)
    assert report.item_counts == {"train": 36, "val": 12, "test": 12}
    assert Dataset(tmp_path / "published").is_leaky
    assert read_info(tmp_path / "published")["health"]["problems"]["leak_across_splits"] == 1
    assert not prepare(artifacts, tmp_path / "group").is_leaky


@pytest.fixture
def alike(build_artifacts: Any, clips: Any, encode_image: Any, random_picture: Any) -> Any:
    """Return a function that builds clips of cars and dogs, the first frames of so many clips of cars all alike."""

    def build(car_count: int, alike_count: int, *, dogs_alike: int = 0) -> Any:
        frames = [*clips("car", car_count, 2), *clips("dog", 3, 2)]
        dogs = 2 * car_count
        for number, frame in enumerate([*frames[: 2 * alike_count : 2], *frames[dogs : dogs + 2 * dogs_alike : 2]]):
            frame.data = encode_image(random_picture(3, size_hw=(480, 640), noise_seed=number))
        return build_artifacts(frames=frames)

    return build


def splits_by_group(folder: Path) -> dict[str, str]:
    return {row["group"]: row["split"] for row in read_info(folder)["groups"]}


def test_clips_that_hold_near_duplicates_stay_together(alike: Any, tmp_path: Path) -> None:
    report = prepare(alike(7, 3), tmp_path / "dataset")
    splits = splits_by_group(tmp_path / "dataset")
    assert len({splits[f"car/{clip}"] for clip in range(3)}) == 1
    assert (report.near_duplicate_pairs, report.is_leaky) == (0, False)
    leak = read_info(tmp_path / "dataset")["leak"]
    assert (leak["cluster_count"], leak["clusters"][0]["count"]) == (1, 3)


def test_near_duplicates_can_be_reported_only(alike: Any, tmp_path: Path) -> None:
    artifacts = alike(7, 7)
    report = prepare(artifacts, tmp_path / "dataset", near_duplicates="report")
    info = read_info(tmp_path / "dataset")
    pairs = {frozenset({pair["first"]["key"], pair["second"]["key"]}) for pair in info["leak"]["examples"]}
    assert report.near_duplicate_pairs > 0
    assert report.is_leaky
    assert pairs <= {frozenset({f"car-{a}-0", f"car-{b}-0"}) for a in range(7) for b in range(7)}
    assert {pair["kind"] for pair in info["leak"]["examples"]} == {"near_duplicate"}
    assert not prepare(artifacts, tmp_path / "lenient", near_duplicates="report", leak_budget=1.0).is_leaky


def test_clips_of_one_fixed_camera_are_divided_and_certified_as_leaky(alike: Any, tmp_path: Path) -> None:
    report = prepare(alike(3, 3), tmp_path / "dataset")
    assert sorted(splits_by_group(tmp_path / "dataset")[f"car/{clip}"] for clip in range(3)) == ["test", "train", "val"]
    assert (report.near_duplicate_pairs, report.is_leaky) == (3, True)
    messages = {problem.code: problem.message for problem in read_problems(tmp_path / "dataset")}
    assert "class 'car' has 1 group" in messages["near_duplicates_not_joined"]
    assert "data.allow_leak = true" in messages["near_duplicates_not_joined"]


def test_near_duplicates_of_other_classes_neither_join_nor_leak(alike: Any, tmp_path: Path) -> None:
    report = prepare(alike(3, 1, dogs_alike=1), tmp_path / "dataset")
    assert (report.near_duplicate_pairs, report.is_leaky) == (0, False)
    assert read_info(tmp_path / "dataset")["health"]["problems"]["near_duplicates_with_other_label"] == 1


def test_a_published_split_is_audited_for_near_duplicates(alike: Any, build_artifacts: Any, tmp_path: Path) -> None:
    artifacts = alike(4, 2)
    path = artifacts.frames / "images.jsonl"
    items = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for item in items:
        item["published_split"] = {"0": "train", "1": "val", "2": "test", "3": "train"}[item["key"].split("-")[1]]
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    report = prepare(artifacts, tmp_path / "dataset", split_mode="published")
    assert (report.group_overlap, report.identical_images, report.near_duplicate_pairs) == (0, 0, 1)
    assert report.is_leaky


def test_folds_test_each_clip_once(detection: Any, tmp_path: Path) -> None:
    tested: list[str] = []
    for fold in range(3):
        prepare(detection, tmp_path / f"fold{fold}", folds=3, fold=fold)
        splits = splits_by_group(tmp_path / f"fold{fold}")
        assert set(splits.values()) == set(SPLITS)
        tested += [group for group, split in splits.items() if split == "test"]
    assert sorted(tested) == [f"clip{clip}" for clip in range(6)]


def test_a_next_version_keeps_the_splits(build_artifacts: Any, clips: Any, tmp_path: Path) -> None:
    first = [*clips("car", 5), *clips("dog", 5)]
    prepare(build_artifacts(frames=first, name="one"), tmp_path / "v1")
    more = [*clips("car", 9), *clips("dog", 8, 6)]  # new clips, and more frames of those that were there
    previous = str(tmp_path / "v1")
    prepare(build_artifacts(frames=more, name="two"), tmp_path / "v2", previous=previous, split_seed=5)
    before, after = splits_by_group(tmp_path / "v1"), splits_by_group(tmp_path / "v2")
    assert {group: after[group] for group in before} == before
    assert len(after) == 17
    assert {after[group] for group in after.keys() - before.keys()} >= {"train"}


def test_shots_of_a_clip_can_be_groups_of_their_own(
    build_artifacts: Any, image_spec: Any, encode_image: Any, random_picture: Any, tmp_path: Path
) -> None:
    frames = [
        image_spec(
            f"film-{shot}-{frame}",
            group="film",
            class_name="car" if shot % 2 else "dog",
            timestamp_s=10.0 * shot + frame,
            data=encode_image(random_picture(shot, size_hw=(120, 160), noise_seed=10 * shot + frame)),
        )
        for shot in range(8)
        for frame in range(3)
    ]
    artifacts = build_artifacts(frames=frames)
    with pytest.raises(SplitError, match="3 groups"):
        prepare(artifacts, tmp_path / "clip")
    prepare(artifacts, tmp_path / "scene", group_by="scene")
    rows = read_info(tmp_path / "scene")["groups"]
    assert sorted((row["group"], row["count"]) for row in rows) == [(f"film#scene-{shot}", 3) for shot in range(1, 9)]


def test_classes_can_be_chosen(detection: Any, tmp_path: Path) -> None:
    report = prepare(detection, tmp_path / "dataset", classes=["bus"])
    assert report.classes == ["bus"]
    assert read_info(tmp_path / "dataset")["health"]["other_class_boxes"] == 24
    assert sum(report.item_counts.values()) == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"split_mode": "random"}, "data.split_mode = 'random': expected group or published", id="mode"),
        pytest.param({"val_fraction": 0.0}, r"data.val_fraction = 0.0: expected a share above 0", id="no val"),
        pytest.param({"test_fraction": float("nan")}, r"data.test_fraction = nan", id="nan"),
        pytest.param({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing for train", id="no train"),
        pytest.param({"folds": 2}, "data.folds = 2", id="two folds"),
        pytest.param({"folds": 5, "fold": 5}, "data.fold = 5: expected 0 to 4", id="fold beyond"),
        pytest.param({"folds": 3, "split_mode": "published"}, "data.split_mode = published", id="published folds"),
        pytest.param({"previous": "x", "folds": 3}, "data.previous = 'x'", id="folds of an earlier version"),
        pytest.param({"group_by": "shot"}, "data.group_by = 'shot': expected clip or scene", id="group by"),
        pytest.param({"near_duplicates": "drop"}, "data.near_duplicates = 'drop'", id="near-duplicates"),
        pytest.param({"leak_budget": -0.1}, "data.leak_budget = -0.1", id="budget"),
        pytest.param({"classes": ["boat"]}, "'boat' not in the data; there are: bus, car", id="class"),
    ],
)
def test_wrong_options_are_refused_and_leave_nothing(
    options: dict[str, Any], message: str, detection: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(detection, tmp_path / "out" / "dataset", **options)
    assert not (tmp_path / "out").exists()


def test_a_class_with_a_single_clip_is_refused_and_leaves_nothing(
    build_artifacts: Any, clips: Any, tmp_path: Path
) -> None:
    artifacts = build_artifacts(frames=[*clips("car", 4), *clips("dog", 1)])
    with pytest.raises(SplitError, match=r"class 'dog' has 1 group \(dog/0\)"):
        prepare(artifacts, tmp_path / "out" / "dataset")
    assert not (tmp_path / "out").exists()


def test_folders_of_another_kind_are_refused(detection: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a sources folder, got 'frames'"):
        prepare_dataset(detection.frames, detection.sources, tmp_path / "dataset")


def test_a_full_disk_leaves_nothing(detection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    class FullDisk(ShardWriter):
        def add_together(self, files: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > 12:
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            return super().add_together(files)

    monkeypatch.setattr(packing, "ShardWriter", FullDisk)
    with pytest.raises(OSError, match="No space left on device") as caught:
        prepare(detection, tmp_path / "out" / "dataset")
    assert caught.value.errno == ENOSPC
    assert caught.value.filename == str(tmp_path / "out" / "dataset")
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    assert prepare(detection, tmp_path / "out" / "dataset").item_counts["train"] > 0


_ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from visionyard.data.prepare import prepare_dataset
try:
    prepare_dataset(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) / "dataset")
except OSError as error:
    print(error.errno, [path.name for path in Path(sys.argv[3]).iterdir()])
"""


@pytest.mark.parametrize("size_kib", [8, 64, 80], ids=["at once", "while packing", "near the end"])
def test_a_really_full_disk_leaves_nothing(size_kib: int, detection: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    mount = f"mount -t tmpfs -o size={size_kib}k tmpfs {disk}"
    if not shutil.which("unshare") or subprocess.run([*in_namespace, mount], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs in a namespace of its own")
    run = f'{mount} && "$0" -W error -c "$1" {detection.sources} {detection.frames} {disk}'
    done = subprocess.run(
        [*in_namespace, run, sys.executable, _ON_A_SMALL_DISK], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{ENOSPC} []"), done.stderr


def test_what_a_killed_try_left_is_replaced(detection: Any, tmp_path: Path) -> None:
    leftover = tmp_path / ".dataset.partial" / "shards"
    leftover.mkdir(parents=True)
    (leftover / "train-00099.tar").write_bytes(b"half")
    prepare(detection, tmp_path / "dataset")
    assert not leftover.exists()
    assert sorted(path.name for path in (tmp_path / "dataset").iterdir()) == [
        "dataset.json",
        "index.parquet",
        PROBLEMS,
        "shards",
    ]


def test_many_groups_are_cut_in_the_table(detection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionyard.data.prepare._MAX_GROUP_ROWS", 4)
    prepare(detection, tmp_path / "dataset")
    info = read_info(tmp_path / "dataset")
    assert (len(info["groups"]), info["groups_left_out"]) == (4, 2)
