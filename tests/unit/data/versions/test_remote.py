"""A version read where it lies gives what the folder gives."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from visionyard.data.dataset import Dataset
from visionyard.data.shards import Blob
from visionyard.data.versions import is_version_address, open_version, push
from visionyard.errors import ArtifactError, ConfigError


@pytest.fixture
def dataset(make_dataset: Callable[..., Path]) -> Path:
    return make_dataset("first", 120)


def test_index_files_and_images_are_those_of_the_folder(store: str, dataset: Path, tmp_path: Path) -> None:
    report = push(dataset, store, tag="shapes:v1")
    version = pickle.loads(pickle.dumps(open_version(f"{store}@shapes:v1")))
    local = Dataset(dataset)
    assert version.id == report.version
    assert version.info == local.info
    assert version.read_file("dataset.json") == (dataset / "dataset.json").read_bytes()
    assert version.index().equals(pq.ParquetFile(dataset / "index.parquet").read())
    version.write_index(tmp_path / "index.parquet")
    assert (tmp_path / "index.parquet").read_bytes() == (dataset / "index.parquet").read_bytes()
    samples = [sample for split in ("val", "train") for sample in local.samples(split)]
    expected = [local.image_bytes(sample) for sample in samples]
    assert version.read_many([sample.blob for sample in samples]) == expected


def test_a_blob_may_span_items(store: str, dataset: Path) -> None:
    report = push(dataset, store)
    version = open_version(f"{store}@{report.version[:8]}")
    shard = (dataset / "shards" / "train-00000.tar").read_bytes()
    for offset, size in ((0, 1), (0, 20_000), (511, 4097), (7_000, 0)):
        assert version.read(Blob("train-00000.tar", offset, size)) == shard[offset : offset + size]


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(Blob("train-00009.tar", 0, 1), id="no such shard"),
        pytest.param(Blob("train-00000.tar", 10**9, 1), id="behind its end"),
        pytest.param(Blob("train-00000.tar", -1, 5), id="before its beginning"),
    ],
)
def test_bytes_that_are_not_there_are_refused(dataset: Path, tmp_path: Path, blob: Blob) -> None:
    version = open_version(f"{tmp_path}/store@{push(dataset, f'{tmp_path}/store').version}")
    with pytest.raises(ArtifactError, match=rf"has no {blob.size} bytes at {blob.offset} of {blob.shard}"):
        version.read(blob)
    with pytest.raises(ArtifactError, match=f"has no file {blob.shard}; it has dataset.json"):
        version.read_file(blob.shard)


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        pytest.param("s3://bucket/data@cones:v2", True, id="tag"),
        pytest.param("/data/store@0123abcd", True, id="short id"),
        pytest.param("s3://bucket/data", False, id="store alone"),
        pytest.param("s3://bucket/data@0123abc", False, id="seven digits"),
        pytest.param("@cones:v2", False, id="no store"),
        pytest.param("http://ann:word@host/x", False, id="password"),
        pytest.param("s3://b/x@a:../../b", False, id="path in the tag"),
    ],
)
def test_what_is_the_address_of_a_version(address: str, is_one: bool) -> None:
    assert is_version_address(address) == is_one


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        pytest.param("shapes:v9", "has no version shapes:v9; `visionyard dataset list`", id="no such tag"),
        pytest.param("00000000", "no version begins so", id="no such id"),
    ],
)
def test_a_version_that_is_not_there(dataset: Path, tmp_path: Path, reference: str, match: str) -> None:
    push(dataset, f"{tmp_path}/store", tag="shapes:v1")
    with pytest.raises(ConfigError, match=match):
        open_version(f"{tmp_path}/store@{reference}")
