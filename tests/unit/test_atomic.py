"""Files and folders appear whole or not at all."""

import fcntl
import os
import shutil
import subprocess
import sys
from errno import ENOLCK, ENOSPC, EXDEV
from pathlib import Path

import pytest

from visionyard.atomic import atomic_file, atomic_folder, resumable_folder, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folder_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "new" / "target"
    with atomic_folder(target) as work:
        (work / "file").write_text("x")
        assert not target.exists()
    assert names(target.parent) == ["target"]
    assert names(target) == ["file"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_nothing_remains_after_an_error(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        with atomic_folder(tmp_path / "target") as work:
            (work / "file").write_text("x")
            raise error
    assert names(tmp_path) == []


def test_leftovers_of_a_killed_try_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".target.partial").mkdir()
    (tmp_path / ".target.partial" / "half").write_text("x")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").write_text("x")
    with atomic_folder(tmp_path / "target") as work:
        assert names(work) == []
    assert names(tmp_path) == ["target"]
    assert names(tmp_path / "target") == []


def test_a_file_in_the_way_is_removed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("placeholder")
    with atomic_folder(tmp_path / "target"):
        pass
    assert (tmp_path / "target").is_dir()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="target") as caught:
        with atomic_folder(tmp_path / "target"):
            raise OSError(ENOSPC, os.strerror(ENOSPC))
    assert caught.value.filename == str(tmp_path / "target")


def test_a_killed_process_leaves_no_target(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from visionyard.atomic import atomic_file, atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as work:\n"
        "    (work / 'file').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "target")], check=False)
    assert done.returncode == -9
    assert names(tmp_path) == [".target.partial"]
    with atomic_folder(tmp_path / "target"):
        pass
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize(("data", "expected"), [("é", b"\xc3\xa9"), (b"\x00\xff", b"\x00\xff")], ids=["text", "bytes"])
def test_file_is_replaced_whole(tmp_path: Path, data: str | bytes, expected: bytes) -> None:
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"old")
    write_atomic(path, data)
    assert path.read_bytes() == expected
    assert names(path.parent) == ["file"]


def test_file_keeps_its_old_content_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_what_an_ended_try_of_the_same_left_is_found_again(tmp_path: Path) -> None:
    def end_in_the_middle(of: str, name: str) -> list[str]:
        with pytest.raises(ValueError, match="ended"), resumable_folder(tmp_path / "target", of=of) as work:
            found = names(work)
            (work / name).touch()
            raise ValueError("ended")
        return found

    assert end_in_the_middle("a", "first") == [".of"]
    assert end_in_the_middle("a", "second") == [".of", "first"]
    assert end_in_the_middle("b", "third") == [".of"]
    with resumable_folder(tmp_path / "target", of="b") as work:
        (work / "last").touch()
    assert names(tmp_path) == ["target"]
    assert names(tmp_path / "target") == ["last", "third"]


def test_a_scratch_folder_on_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONYARD_SCRATCH", str(tmp_path / "scratch"))
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self.parent.name == "scratch":
            raise OSError(EXDEV, os.strerror(EXDEV))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with resumable_folder(tmp_path / "deep" / "target", of="a") as work:
        assert work.parent == tmp_path / "scratch"
        (work / "file").write_bytes(b"content")
    assert (tmp_path / "deep" / "target" / "file").read_bytes() == b"content"
    assert names(tmp_path / "deep") == ["target"]
    assert names(tmp_path / "scratch") == []


def test_a_copy_to_another_file_system_that_was_killed_costs_the_copy_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONYARD_SCRATCH", str(tmp_path / "scratch"))
    rename = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path.is_dir():
            raise OSError(EXDEV, os.strerror(EXDEV))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt), resumable_folder(tmp_path / "target", of="a") as work:
        (work / "file").touch()
        monkeypatch.setattr(shutil, "copytree", _die)
    monkeypatch.undo()
    monkeypatch.setenv("VISIONYARD_SCRATCH", str(tmp_path / "scratch"))
    with resumable_folder(tmp_path / "target", of="a") as work:
        assert names(work) == [".of", "file"]
    assert names(tmp_path / "target") == ["file"]


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("has_leftover", [False, True])
def test_a_file_system_without_locks_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_leftover: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(ENOLCK, os.strerror(ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if has_leftover:
        (tmp_path / ".a.txt.partial").touch()
    write_atomic(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert names(tmp_path) == ["a.txt"]


def test_what_a_killed_writer_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.partial").write_bytes(b"much more than the next one writes")
    write_atomic(tmp_path / "a.txt", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_two_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_file(path) as first:
        first.write(b"first")
        with atomic_file(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
