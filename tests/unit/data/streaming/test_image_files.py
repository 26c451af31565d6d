"""Images as files: unpacked once a node, linked for each training, never half of a split."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from visionyard.data.dataset import Dataset
from visionyard.data.streaming import NodeCache, StreamedDataset, image_files, place_images
from visionyard.data.streaming.folder_copy import FolderCopy
from visionyard.errors import ArtifactError


@pytest.fixture
def dataset(shapes_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("VISIONYARD_CACHE_DIR", str(tmp_path / "cache"))
    return Dataset(shapes_dataset("detection", train=12, size_px=32))


def _place(dataset: Dataset, folder: Path) -> list[Path]:
    folder.mkdir()
    place_images(dataset, "train", lambda sample: folder / sample.image_name)
    return _checked(dataset, folder)


def _checked(dataset: Dataset, folder: Path) -> list[Path]:
    """Return the files that lie in a folder, which must be those of the split."""
    for sample in dataset.samples("train"):
        assert (folder / sample.image_name).read_bytes() == dataset.image_bytes(sample)
    files = sorted(folder.iterdir())
    assert len(files) == dataset.count("train")
    return files


def _entry(dataset: Dataset) -> Path:
    return NodeCache.of_node().folder / f"entries/images-{dataset.digest[:32]}-train"


def test_a_second_training_gets_links_to_what_the_first_unpacked(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _place(dataset, tmp_path / "first")
    with monkeypatch.context() as patch:
        patch.setattr(image_files, "_unpack", lambda *_: pytest.fail("unpacked again"))
        second = _place(dataset, tmp_path / "second")
    assert [path.stat().st_ino for path in first] == [path.stat().st_ino for path in second]


def test_a_training_keeps_its_images_when_they_are_evicted(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size_bytes = int(dataset.image_sizes("train").sum())
    monkeypatch.setenv("VISIONYARD_CACHE_BYTES", str(size_bytes))
    _place(dataset, tmp_path / "first")
    NodeCache.of_node().add("other", lambda: bytes(size_bytes))
    assert not _entry(dataset).exists()
    _checked(dataset, tmp_path / "first")
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "first").iterdir())


def test_a_split_that_does_not_fit_is_unpacked_for_the_training_alone(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONYARD_CACHE_BYTES", "100")
    _place(dataset, tmp_path / "first")
    assert not _entry(dataset).exists()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_there_are_copies(
    code: int, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    assert all(path.stat().st_nlink == 1 for path in _place(dataset, tmp_path / "first"))


def test_a_full_disk_is_told(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OSError, match="no space left"):
        _place(dataset, tmp_path / "first")


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), Path.unlink], ids=["emptied", "gone"])
def test_a_damaged_file_is_read_from_the_dataset(
    damage: Callable[[Path], None], dataset: Dataset, tmp_path: Path
) -> None:
    _place(dataset, tmp_path / "first")
    shutil.rmtree(tmp_path / "first")
    damage(sorted(_entry(dataset).glob("*.png"))[3])
    _place(dataset, tmp_path / "second")


def test_several_ranks_at_once_unpack_once(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = []
    real = image_files._unpack
    monkeypatch.setattr(image_files, "_unpack", lambda *values: (unpacked.append(1), real(*values)))
    with ThreadPoolExecutor(4) as pool:
        ranks = [pool.submit(_place, dataset, tmp_path / f"rank-{rank}") for rank in range(4)]
        assert len({tuple(path.stat().st_ino for path in rank.result()) for rank in ranks}) == 1
    assert unpacked == [1]


_KILLED = """
import os, pathlib, signal, sys
from visionyard.data.dataset import Dataset
from visionyard.data.streaming import place_images

class Killed(Dataset):
    def image_bytes(self, sample):
        if sample.key.endswith("7"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().image_bytes(sample)

place_images(Killed(pathlib.Path(sys.argv[1])), "train", lambda sample: pathlib.Path(sys.argv[2]) / sample.image_name)
"""


def test_a_killed_unpacking_is_begun_again(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    done = subprocess.run([sys.executable, "-c", _KILLED, str(dataset.folder), str(tmp_path / "killed")], check=False)
    assert done.returncode == -9
    assert not _entry(dataset).exists()
    assert list((tmp_path / "killed").iterdir()) == []
    _place(dataset, tmp_path / "second")


def test_a_damaged_dataset_leaves_nothing_taken_for_complete(dataset: Dataset, tmp_path: Path) -> None:
    shard = dataset.folder / "shards/train-00000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:5000])
    with pytest.raises(ArtifactError, match="the shard was cut short"):
        _place(dataset, tmp_path / "first")
    assert not _entry(dataset).exists()
    shard.write_bytes(whole)
    _place(dataset, tmp_path / "second")


def test_a_dataset_in_the_store_is_unpacked_too(dataset: Dataset, tmp_path: Path) -> None:
    source = FolderCopy(f"file://{dataset.folder}")
    _place(StreamedDataset(source, name="set", cache=NodeCache.of_node()), tmp_path / "first")
    assert _entry(dataset).exists()
