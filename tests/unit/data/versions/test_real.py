"""Real data, with boxes and with masks, through the stages, into a store and back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import contents
from visionyard.data.dataset import Dataset
from visionyard.data.extract_frames import extract_frames
from visionyard.data.ingest import ingest
from visionyard.data.prepare import prepare_dataset
from visionyard.data.versions import open_version, pull, push


@pytest.mark.parametrize("name", ["membrane-isbi2012", "nuclei-dsb2018"])
def test_a_prepared_dataset_comes_back_byte_for_byte(
    shared_data: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    ingest(str(shared_data(name)), tmp_path / "sources")
    extract_frames(tmp_path / "sources", tmp_path / "frames", rate_hz=1)
    prepare_dataset(tmp_path / "sources", tmp_path / "frames", tmp_path / "dataset")
    push(tmp_path / "dataset", f"{tmp_path}/store", tag="real:v1")
    pull(f"{tmp_path}/store@real:v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "dataset")
    local, version = Dataset(tmp_path / "dataset"), open_version(f"{tmp_path}/store@real:v1")
    samples = list(local.samples("train"))
    assert version.read_many([sample.blob for sample in samples]) == [local.image_bytes(sample) for sample in samples]
