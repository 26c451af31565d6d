"""Real data sets, against the counts that their own documents state."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.source_files import clips, items
from visionyard.config.run_config import SourceKind
from visionyard.data.artifacts import read_manifest, read_problems
from visionyard.data.class_masks import decode_class_mask
from visionyard.data.ingest import ingest
from visionyard.data.items import Item
from visionyard.data.shards import read_blob

KINDS: dict[str, SourceKind] = {"nuclei": "images_instance_masks", "membranes": "images_semantic_masks"}
SharedData = Callable[[str], Path]


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


def test_nuclei(shared_data: SharedData, tmp_path: Path) -> None:
    source = shared_data("nuclei-dsb2018")
    report = ingest(str(source), tmp_path / "out")
    found = items(tmp_path / "out")
    assert (report.kind, report.image_count, report.problem_count) == ("images_instance_masks", 75, 0)
    assert report.classes == ("object",)
    assert sum(len(item.boxes or ()) for item in found) == 1558
    # Pixel by pixel: the masks of one image, of which none overlap, against its files laid over one another.
    for item in found[::15]:
        union = np.zeros((item.height, item.width), np.int64)
        for file in (source / item.source).parent.parent.glob("masks/*.png"):
            union += np.asarray(Image.open(file)) > 0
        masks = [box.mask.to_array() for box in item.boxes or () if box.mask]
        np.testing.assert_array_equal(sum(mask.astype(np.int64) for mask in masks), union)
        for box in item.boxes or ():
            assert box.mask is not None
            rows, columns = np.nonzero(box.mask.to_array())
            assert box.xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_membranes(shared_data: SharedData, tmp_path: Path) -> None:
    source = shared_data("membrane-isbi2012")
    report = ingest(str(source), tmp_path / "out")
    found = items(tmp_path / "out")
    assert (report.kind, report.image_count) == ("images_semantic_masks", 60)
    assert report.classes == ("background", "foreground")
    assert read_manifest(tmp_path / "out", "sources")["problem_counts"] == {"image_without_labels": 30}
    labelled = [item for item in found if item.mask_blob]
    assert sorted(item.source for item in labelled) == sorted(f"train/image/{n}.png" for n in range(30))
    for item in labelled[::7]:
        assert item.mask_blob is not None
        ids = decode_class_mask(read_blob(tmp_path / "out" / "shards", item.mask_blob))
        label = np.asarray(Image.open(source / item.source.replace("image", "label")))
        np.testing.assert_array_equal(ids, label // 255)
    assert Counter(item.published_split for item in found) == {"train": 30, "test": 30}


@pytest.mark.parametrize("seed", range(6))
def test_altered_real_masks(seed: int, shared_data: SharedData, tmp_path: Path) -> None:
    """A few bytes of one mask are others, or it ends early: it is read, or told by its name, and the rest is kept."""
    random = np.random.default_rng(seed)
    membranes, nuclei = shared_data("membrane-isbi2012"), shared_data("nuclei-dsb2018")
    nucleus = sorted(path for path in nuclei.iterdir() if path.is_dir())[seed]
    shutil.copytree(nucleus, tmp_path / "nuclei" / nucleus.name)
    for name in ("image/0.png", "image/1.png", "label/0.png", "label/1.png"):
        (tmp_path / "membranes" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(membranes / "train" / name, tmp_path / "membranes" / name)
    first = min((tmp_path / "nuclei").glob("*/masks/*.png"))
    for folder, mask in (("nuclei", first), ("membranes", tmp_path / "membranes/label/0.png")):
        data = bytearray(mask.read_bytes())
        for place in random.integers(8, len(data), 5):
            data[place] = random.integers(0, 256)
        mask.write_bytes(data[: random.integers(9, len(data))] if seed % 2 else data)
        report = ingest(str(tmp_path / folder), tmp_path / f"{folder}-out", kind=KINDS[folder])
        told = {problem.file for problem in read_problems(tmp_path / f"{folder}-out")}
        assert told <= {mask.relative_to(tmp_path / folder).as_posix()}
        assert report.image_count == len(list((tmp_path / folder).rglob("image*/*.png")))


def test_videos(shared_data: SharedData, tmp_path: Path) -> None:
    report = ingest(str(shared_data("videos")), tmp_path / "out")
    found = clips(tmp_path / "out")
    assert (report.kind, report.clip_count, report.problem_count) == ("clips_by_class", 24, 0)
    assert Counter(clip.class_name for clip in found) == {
        "bottle": 1,
        "car": 3,
        "defective": 2,
        "person": 3,
        "signing": 15,
    }
    assert Counter(clip.media_type for clip in found) == {
        "video/mp4": 3,
        "video/x-msvideo": 5,
        "video/x-matroska": 15,
        "image/gif": 1,
    }
