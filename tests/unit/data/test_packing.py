"""Masks and crowds in a dataset version, and that others are what they were without them."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from visionyard.data.dataset import INDEX, Dataset
from visionyard.data.items import SPLITS
from visionyard.data.prepare import prepare_dataset
from visionyard.errors import DataError
from visionyard.geometry import Mask

CLASSES = ("sky", "road", "car")
# As prepare_dataset gave it before there were masks.
DIGEST_BEFORE_MASKS = "de5e81405d971a47764d4be3aba4c91cced524af30d66931f540de5bbe8d4b56"
NEW_COLUMNS = ["masks", "is_crowd", "mask_offset", "mask_size"]


def pixels_of(number: int) -> np.ndarray:
    pixels = np.zeros((48, 64), np.bool_)
    pixels[number : number + 9, 4:30] = True
    return pixels


def ids_of(number: int) -> np.ndarray:
    ids = np.full((48, 64), 255, np.uint8)
    ids[:, : 20 + number], ids[number, 40:], ids[-1] = 0, 2, 1
    return ids


@pytest.fixture
def with_masks(build_artifacts: Callable[..., Any], image_spec: Any) -> Callable[..., Any]:
    """Return a function that writes sources of nine images with a masked box and a plain one each."""

    def build(name: str = "input", *, shift: int = 0, crowds: tuple[int, ...] = ()) -> Any:
        boxes = (("car", (4.0, 0.0, 30.0, 20.0)), ("bus", (0.0, 0.0, 64.0, 48.0)))
        specs = [
            image_spec(f"k{n}", boxes=boxes, masks=(Mask.from_array(pixels_of(n + shift)), None), crowds=crowds)
            for n in range(9)
        ]
        return build_artifacts(specs, name=name)

    return build


@pytest.fixture
def semantic(build_artifacts: Callable[..., Any], image_spec: Any) -> Any:
    return build_artifacts([image_spec(f"k{n}", semantic_mask=ids_of(n)) for n in range(9)], classes=CLASSES)


def plain_picture(number: int) -> np.ndarray:
    return np.resize(np.arange(number, 251, dtype=np.uint8), (48, 64, 3))


def open_samples(folder: Path) -> tuple[Dataset, dict[str, Any]]:
    dataset = Dataset(folder)
    return dataset, {sample.key: sample for split in SPLITS for sample in dataset.samples(split)}


def test_masks_of_boxes_are_read_as_they_were(with_masks: Callable[..., Any], tmp_path: Path) -> None:
    artifacts = with_masks(crowds=(1,))
    prepare_dataset(artifacts.sources, artifacts.frames, tmp_path / "dataset")
    dataset, samples = open_samples(tmp_path / "dataset")
    assert (dataset.task, dataset.has_masks) == ("detection", True)
    assert len(samples) == 9
    for key, sample in samples.items():
        mask, none = sample.masks
        assert none is None
        np.testing.assert_array_equal(mask.to_array(), pixels_of(int(key[1:])))
        assert sample.is_crowd.tolist() == [False, True]
    with pytest.raises(DataError, match=r"dataset/k0: has no class for each pixel; the data are for detection"):
        dataset.semantic_mask(samples["k0"])


def test_masks_stand_in_the_label_file_as_coco_has_them(with_masks: Callable[..., Any], tmp_path: Path) -> None:
    artifacts = with_masks(crowds=(0,))
    prepare_dataset(artifacts.sources, artifacts.frames, tmp_path / "dataset")
    with tarfile.open(tmp_path / "dataset/shards/test-00000.tar") as tar:
        name = next(name for name in tar.getnames() if name.endswith(".json"))
        member = tar.extractfile(name)
        assert member is not None
        label = json.load(member)
    mask, none = label["masks"]
    np.testing.assert_array_equal(Mask.from_json(mask).to_array(), pixels_of(int(name[1])))
    assert (none, label["is_crowd"]) == (None, [True, False])


def test_masks_and_crowds_are_part_of_the_digest(with_masks: Callable[..., Any], tmp_path: Path) -> None:
    variants = {"same": {}, "again": {}, "other pixels": {"shift": 1}, "a crowd": {"crowds": (1,)}}
    digests = {}
    for name, options in variants.items():
        artifacts = with_masks(name, **options)
        digests[name] = prepare_dataset(artifacts.sources, artifacts.frames, tmp_path / f"{name}-out").digest
    assert digests["same"] == digests["again"]
    assert len(set(digests.values())) == 3


def test_data_without_masks_keep_their_digest(
    build_artifacts: Callable[..., Any], image_spec: Any, encode_image: Callable[..., bytes], tmp_path: Path
) -> None:
    # BMP, since the bytes of a compressed picture depend on the encoder's version.
    specs = [
        image_spec(f"k{n}", boxes=(("car", (1.0, 2.0, 9.0, 9.0)),), data=encode_image(plain_picture(n), "BMP"))
        for n in range(3)
    ]
    artifacts = build_artifacts(specs)
    report = prepare_dataset(artifacts.sources, artifacts.frames, tmp_path / "dataset")
    assert report.digest == DIGEST_BEFORE_MASKS


def test_an_index_without_the_columns_of_masks_still_opens(with_masks: Callable[..., Any], tmp_path: Path) -> None:
    artifacts = with_masks()
    prepare_dataset(artifacts.sources, artifacts.frames, tmp_path / "dataset")
    path = tmp_path / "dataset" / INDEX
    pq.write_table(pq.read_table(path).drop_columns(NEW_COLUMNS), path)
    info = json.loads((tmp_path / "dataset/dataset.json").read_text())
    del info["has_masks"]
    (tmp_path / "dataset/dataset.json").write_text(json.dumps(info))
    dataset, samples = open_samples(tmp_path / "dataset")
    assert not dataset.has_masks
    assert samples["k3"].masks == (None, None)
    assert samples["k3"].is_crowd.tolist() == [False, False]
    assert samples["k3"].mask_blob is None


def test_semantic_masks_are_read_as_they_were(semantic: Any, tmp_path: Path) -> None:
    report = prepare_dataset(semantic.sources, semantic.frames, tmp_path / "dataset")
    dataset, samples = open_samples(tmp_path / "dataset")
    assert (dataset.task, dataset.classes, dataset.has_masks) == ("semantic_segmentation", list(CLASSES), False)
    assert len(samples) == 9
    for key, sample in samples.items():
        np.testing.assert_array_equal(dataset.semantic_mask(sample), ids_of(int(key[1:])))
        assert sample.class_ids.tolist() == [0, 1, 2]
        assert (sample.xyxy.shape, sample.masks, sample.is_crowd.shape) == ((0, 4), (), (0,))
    assert report.class_counts["test"]["sky"] == {"items": report.item_counts["test"], "boxes": 0}


def test_ids_follow_the_chosen_classes(semantic: Any, tmp_path: Path) -> None:
    prepare_dataset(semantic.sources, semantic.frames, tmp_path / "dataset", classes=["car", "sky"])
    dataset, samples = open_samples(tmp_path / "dataset")
    expected = {255: 255, 0: 1, 1: 255, 2: 0}
    for key, sample in samples.items():
        ids = ids_of(int(key[1:]))
        np.testing.assert_array_equal(dataset.semantic_mask(sample), np.vectorize(expected.get)(ids))
        assert sample.class_ids.tolist() == [0, 1]


def test_a_mask_stands_beside_its_image(semantic: Any, tmp_path: Path) -> None:
    prepare_dataset(semantic.sources, semantic.frames, tmp_path / "dataset", shard_bytes=20_000)
    for shard in (tmp_path / "dataset/shards").iterdir():
        with tarfile.open(shard) as tar:
            names = tar.getnames()
        keys = sorted({name.partition(".")[0] for name in names})
        assert sorted(names) == sorted(f"{key}.{end}" for key in keys for end in ("jpg", "json", "mask.png"))


def test_the_digest_follows_the_masks(
    semantic: Any, build_artifacts: Callable[..., Any], image_spec: Any, tmp_path: Path
) -> None:
    other = [image_spec(f"k{n}", semantic_mask=ids_of(n or 5)) for n in range(9)]
    changed = build_artifacts(other, classes=CLASSES, name="changed")
    reports = [
        prepare_dataset(each.sources, each.frames, tmp_path / f"out-{number}")
        for number, each in enumerate((semantic, semantic, changed))
    ]
    assert reports[0].digest == reports[1].digest != reports[2].digest
