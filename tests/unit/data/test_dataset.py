"""Reading a dataset version."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.data.dataset import DATASET, INDEX, Dataset
from visionyard.data.items import SPLITS
from visionyard.data.prepare import prepare_dataset
from visionyard.errors import ArtifactError, DataError


@pytest.fixture
def folder(build_artifacts: Any, image_spec: Any, encode_image: Any, random_picture: Any, tmp_path: Path) -> Path:
    """A detection dataset of 12 loose PNG images, the last two of which show nothing."""
    specs = [
        image_spec(
            f"k{number:02d}",
            boxes=(("car", (1.0, 2.0, 3.5 + number, 9.0)), ("bus", (0, 0, 64, 48))) if number < 10 else (),
            data=encode_image(random_picture(number), "PNG"),
        )
        for number in range(12)
    ]
    artifacts = build_artifacts(specs)
    prepare_dataset(artifacts.sources, artifacts.frames, tmp_path / "dataset")
    return tmp_path / "dataset"


def test_every_item_is_read_as_it_was(folder: Path, random_picture: Any) -> None:
    dataset = Dataset(folder)
    assert (dataset.task, dataset.classes, len(dataset.digest)) == ("detection", ["bus", "car"], 64)
    seen = set()
    for split in SPLITS:
        samples = list(dataset.samples(split))
        assert [sample.key for sample in samples] == sorted(sample.key for sample in samples)
        assert len(samples) == dataset.count(split)
        for position, sample in enumerate(samples):
            alone = dataset.sample(split, position)
            assert (alone.key, alone.blob) == (sample.key, sample.blob)
            np.testing.assert_array_equal(alone.xyxy, sample.xyxy)
            number = int(sample.key[1:])
            np.testing.assert_array_equal(dataset.image(sample), random_picture(number))
            expected = [[1.0, 2.0, 3.5 + number, 9.0], [0, 0, 64, 48]] if number < 10 else np.zeros((0, 4))
            np.testing.assert_array_equal(sample.xyxy, expected)
            assert sample.xyxy.dtype == np.float64
            assert sample.class_ids.tolist() == ([1, 0] if number < 10 else [])
            assert (sample.split, sample.width, sample.height, sample.timestamp_s) == (split, 64, 48, None)
            assert sample.image_name == f"{sample.key}.png"
            seen.add(sample.key)
    assert len(seen) == 12


@pytest.mark.parametrize("position", [-1, 100])
def test_a_position_outside_is_refused(folder: Path, position: int) -> None:
    with pytest.raises(IndexError, match=f"items, asked for position {position}"):
        Dataset(folder).sample("val", position)


def test_a_missing_index_is_named(folder: Path) -> None:
    (folder / INDEX).unlink()
    with pytest.raises(ArtifactError, match=r"index\.parquet: the index is missing; run prepare_dataset again"):
        Dataset(folder).count("train")


def test_another_schema_version_is_refused(folder: Path) -> None:
    info = json.loads((folder / DATASET).read_text())
    (folder / DATASET).write_text(json.dumps({**info, "schema_version": 99}))
    with pytest.raises(ArtifactError, match=r"dataset\.json: schema_version 99 is not known, expected 1"):
        Dataset(folder)


def test_a_table_is_no_dataset_of_images(folder: Path) -> None:
    info = json.loads((folder / DATASET).read_text())
    (folder / DATASET).write_text(json.dumps({**info, "task": "table"}))
    with pytest.raises(
        ArtifactError, match=r"made for table, expected images, one of classification, detection, .*TableData"
    ):
        Dataset(folder)


def test_an_image_that_cannot_be_decoded_is_named(folder: Path) -> None:
    dataset = Dataset(folder)
    sample = dataset.sample("test", 0)
    shard = folder / "shards" / sample.blob.shard
    data = bytearray(shard.read_bytes())
    data[sample.blob.offset : sample.blob.offset + 4] = b"gone"
    shard.write_bytes(data)
    with pytest.raises(DataError, match=f"dataset/{sample.key}: not an image of a known format"):
        dataset.image(sample)
