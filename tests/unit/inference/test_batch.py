"""A bundle over folders, stores and dataset versions: the same results however often the run was killed."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.clips import write_clip
from visionyard import storage
from visionyard.errors import ArtifactError, ConfigError, StorageError
from visionyard.inference import Predictor, predict_paths
from visionyard.inference.batch import BatchSettings, BatchSummary, predict_batch
from visionyard.inference.batch_parts import read_part, writing_part

MakeBundle = Callable[[str], tuple[Path, Path]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images, one damaged file, one text that is not looked at."""
    rng = np.random.default_rng(3)
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    for number in range(10):
        image = rng.integers(90, 150, (80, 96 + number, 3)).astype(np.uint8)
        image[20:36, 10 + 6 * number : 26 + 6 * number] = (220, 40, 30)
        Image.fromarray(image).save(root / ("deep" if number % 2 else ".") / f"{number:02d}.png")
    (root / "05-damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (root / "notes.txt").write_text("not looked at")
    return root


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    images = np.full((20, 80, 96, 3), 120, np.uint8)
    for number, image in enumerate(images):
        image[20:36, 10 + number : 26 + number] = (220, 40, 30)
    return write_clip(tmp_path / "clip.mp4", images)


def _run(bundle: Path, sources: list[Any], target: Any, **settings: Any) -> BatchSummary:
    return predict_batch(bundle, [str(one) for one in sources], str(target), BatchSettings(**settings))


def _contents(target: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in target.iterdir()}


def _records(target: Any, file_format: Any = "jsonl") -> Iterator[dict[str, Any]]:
    for info in storage.list_objects(str(target)):
        if info.key.startswith("part-"):
            yield from read_part(info.address, file_format)


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_a_folder_gives_what_predict_gives(
    tiny_bundle: MakeBundle, folder: Path, clip: Path, tmp_path: Path, file_format: Any
) -> None:
    bundle, _ = tiny_bundle("detection")
    told: list[tuple[int, int]] = []

    settings = BatchSettings(file_format=file_format, part_item_count=4, rate_hz=2.0, worker_count=3)
    summary = predict_batch(
        bundle, [str(folder), str(clip)], str(tmp_path / "out"), settings, on_progress=lambda *done: told.append(done)
    )

    good = sorted(folder.rglob("*.png"), key=lambda path: path.relative_to(folder).as_posix())
    with Predictor.from_bundle(bundle) as predictor:
        expected = [seen.to_json(predictor.classes) for seen in predict_paths(predictor, [*good, clip], rate_hz=2.0)]
    records = list(_records(tmp_path / "out", file_format))
    failed = [record for record in records if "error" in record]
    assert [record["path"] for record in failed] == [str(folder / "05-damaged.jpg")]
    seen = [record for record in records if "error" not in record]
    assert {record.pop("height") for record in seen} == {80}
    assert sorted(record.pop("width") for record in seen) == sorted([*range(96, 106), *[96] * 4])
    assert seen == expected
    assert any(record["boxes"] for record in seen)
    assert summary.item_count == 12 and summary.picture_count == 14 and summary.failed_count == 1
    assert summary.failures[0]["path"].endswith("05-damaged.jpg")
    assert summary.class_counts["red"] == sum(len(record["boxes"]) for record in seen)
    assert told == [(4, 12), (8, 12), (12, 12)]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["part_count"] == 3


def test_a_dataset_version(tiny_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle, dataset = tiny_bundle("classification")

    summary = _run(bundle, [dataset], tmp_path / "out", part_item_count=10)

    records = list(_records(tmp_path / "out"))
    assert [record["split"] for record in records] == ["train"] * 6 + ["val"] * 3 + ["test"] * 6
    assert records[0]["path"] == f"{dataset}/train/train000.png"
    assert all(record["top"][0]["class"] == record["class"] for record in records)
    assert sum(summary.class_counts.values()) == summary.picture_count == 15


def test_it_goes_on_where_it_stopped(tiny_bundle: MakeBundle, folder: Path, tmp_path: Path) -> None:
    bundle, _ = tiny_bundle("detection")
    whole = tmp_path / "whole"
    _run(bundle, [folder], whole, part_item_count=3)
    partly = tmp_path / "partly"
    shutil.copytree(whole, partly)
    for name in ("part-00002.jsonl", "summary.json"):
        (partly / name).unlink()
    kept = (partly / "part-00000.jsonl").stat().st_mtime_ns

    summary = _run(bundle, [folder], partly, part_item_count=3, worker_count=1)

    assert summary.resumed_part_count == 3
    assert (partly / "part-00000.jsonl").stat().st_mtime_ns == kept
    assert _contents(partly) == _contents(whole)


def test_a_killed_run_ends_with_the_same_files(tiny_bundle: MakeBundle, folder: Path, tmp_path: Path) -> None:
    bundle, _ = tiny_bundle("detection")
    for number in range(200):
        shutil.copy(folder / "00.png", folder / f"more-{number:03d}.png")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    program = (
        "import sys; from pathlib import Path\n"
        "from visionyard.inference.batch import BatchSettings, predict_batch\n"
        "predict_batch(Path(sys.argv[1]), [sys.argv[2]], sys.argv[3], BatchSettings(part_item_count=4))"
    )
    command = [sys.executable, "-c", program, str(bundle), str(folder), str(killed)]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 60
        while not (killed / "part-00001.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
    assert not (killed / "summary.json").exists()
    assert (killed / "part-00001.jsonl").exists()

    assert _run(bundle, [folder], killed, part_item_count=4).resumed_part_count >= 2

    _run(bundle, [folder], whole, part_item_count=4)
    assert _contents(killed) == _contents(whole)


def test_between_stores(tiny_bundle: MakeBundle, folder: Path, clip: Path, s3: str, tmp_path: Path) -> None:
    bundle, dataset = tiny_bundle("detection")
    storage.upload_folder(folder, f"{s3}/in")
    storage.upload_file(clip, f"{s3}/in/clip.mp4")
    storage.upload_folder(dataset, f"{s3}/dataset")

    summary = _run(bundle, [f"{s3}/in", f"{s3}/dataset"], f"{s3}/out", part_item_count=5)

    local = _run(bundle, [folder, clip, dataset], tmp_path / "out")
    assert (summary.picture_count, summary.failed_count) == (local.picture_count, 1)
    assert summary.class_counts == local.class_counts
    by_name = {Path(record["path"]).name: record for record in _records(f"{s3}/out")}
    assert by_name["03.png"]["path"] == f"{s3}/in/deep/03.png"
    assert by_name["05-damaged.jpg"]["error"].startswith(f"{s3}/in/05-damaged.jpg: ")
    for record in _records(tmp_path / "out"):
        if "frame_index" not in record and "error" not in record:
            assert by_name[Path(record["path"]).name]["boxes"] == record["boxes"]
    storage.delete(f"{s3}/out/part-00001.jsonl")
    assert _run(bundle, [f"{s3}/in", f"{s3}/dataset"], f"{s3}/out", part_item_count=5).resumed_part_count == 5


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_masks_and_keypoints_survive_in_parts(tmp_path: Path, file_format: Any) -> None:
    box = {"class": "red", "class_id": 1, "confidence": 0.75, "xyxy": [1.0, 2.0, 3.0, 4.0]}
    mask = {"rle": {"size": [8, 9], "counts": "52`0"}}
    records = [
        {
            "path": "a.png",
            "width": 9,
            "height": 8,
            "boxes": [{**box, "mask": mask, "keypoints": [[1.0, 2.0, 0.5]]}, box],
        },
        {"path": "b.png", "error": "not an image"},
        {"path": "c.png", "split": "test", "width": 9, "height": 8, "boxes": []},
    ]
    address = str(tmp_path / "part")
    with writing_part(address, file_format) as write:
        for record in records:
            write(record)
    assert list(read_part(address, file_format)) == records


def test_memory_does_not_grow_with_the_items(tiny_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle, _ = tiny_bundle("classification")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (2000, 1500)).save(tmp_path / "images/0.png")
    for number in range(1, 100):
        (tmp_path / f"images/{number}.png").hardlink_to(tmp_path / "images/0.png")
    program = (
        "import re, sys; from pathlib import Path\n"
        "from visionyard.inference.batch import BatchSettings, predict_batch\n"
        "predict_batch(Path(sys.argv[1]), [sys.argv[2]], sys.argv[3], BatchSettings(worker_count=2))\n"
        # Not getrusage: its peak is at least that of the process which started this one.
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    command = [sys.executable, "-c", program, str(bundle), str(tmp_path / "images"), str(tmp_path / "out")]
    peak_kib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak_kib < 500 << 10  # a hundred decoded images are 860 MiB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"confidence_threshold": 0.9}, "confidence_threshold was None, is 0.9", id="threshold"),
        pytest.param({"part_item_count": 2}, "part_item_count was 3, is 2", id="part_size"),
        pytest.param({"model_format": "torchscript"}, "model_format was 'onnx'", id="format"),
    ],
)
def test_results_of_something_else_are_not_mixed(
    tiny_bundle: MakeBundle, folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    bundle, _ = tiny_bundle("detection")
    _run(bundle, [folder], tmp_path / "out", part_item_count=3)
    with pytest.raises(ConfigError, match=message):
        _run(bundle, [folder], tmp_path / "out", **{"part_item_count": 3, **change})


def test_another_listing_is_something_else(tiny_bundle: MakeBundle, folder: Path, tmp_path: Path) -> None:
    bundle, _ = tiny_bundle("detection")
    _run(bundle, [folder], tmp_path / "out")
    Image.new("RGB", (20, 20)).save(folder / "00.png")
    with pytest.raises(ConfigError, match="listing_digest"):
        _run(bundle, [folder], tmp_path / "out")


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        pytest.param(lambda folder, out: shutil.rmtree(folder), ConfigError, "no image or video there", id="nothing"),
        pytest.param(
            lambda folder, out: (out.mkdir(), (out / "part-00000.jsonl").touch()),
            ConfigError,
            "parts without",
            id="taken",
        ),
        pytest.param(lambda folder, out: out.write_text(""), StorageError, "out", id="target_is_a_file"),
    ],
)
def test_says_what_is_wrong(
    tiny_bundle: MakeBundle, folder: Path, tmp_path: Path, prepare: Any, error: type[Exception], message: str
) -> None:
    bundle, _ = tiny_bundle("detection")
    prepare(folder, tmp_path / "out")
    with pytest.raises(error, match=message):
        _run(bundle, [folder], tmp_path / "out")


def test_a_bundle_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a model bundle"):
        _run(tmp_path, [folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"part_item_count": 0}, {"worker_count": -1}], ids=["part", "workers"])
def test_settings_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BatchSettings(**wrong)  # type: ignore[arg-type]
