"""Archives from outside: what is unpacked, and every attack that is refused."""

import gzip
import io
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import contents
from visionyard.data.formats.archives import UnpackLimits, is_archive, unpack
from visionyard.errors import DataError

FILES = {"a/b.txt": b"bee", "c.txt": b"sea"}


def zip_of(path: Path, files: dict[str, bytes], mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            packed.writestr(member, data, zipfile.ZIP_DEFLATED)
    return path


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w", **header: Any) -> Path:
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in header.items():
                setattr(member, key, value)
            packed.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(zip_of, id="zip"),
        pytest.param(tar_of, id="tar"),
        pytest.param(lambda path, files: tar_of(path, files, "w:gz"), id="tar.gz"),
        pytest.param(lambda path, files: tar_of(path, files, "w:bz2"), id="tar.bz2"),
        pytest.param(lambda path, files: tar_of(path, files, "w:xz"), id="tar.xz"),
    ],
)
def test_good_archives_are_unpacked_whatever_their_name(pack: Callable[..., Path], tmp_path: Path) -> None:
    many = {**FILES, **{f"many/{number}": bytes([number]) * 700 for number in range(50)}}
    archive = pack(tmp_path / "no-extension", many)
    assert is_archive(archive)
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == many


def test_backslashes_of_windows_are_separators(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    unpack(zip_of(tmp_path / "w.zip", {"train\\cat\\1.jpg": b"x"}), tmp_path / "out")
    assert contents(tmp_path / "out") == {"train/cat/1.jpg": b"x"}


HOSTILE_NAMES = [
    pytest.param("../evil", id="traversal"),
    pytest.param("a/../../evil", id="traversal inside"),
    pytest.param("/tmp/evil", id="absolute"),
    pytest.param("..\\evil", id="traversal by backslash"),
    pytest.param("C:\\evil", id="drive letter"),
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("pack", [pytest.param(zip_of, id="zip"), pytest.param(tar_of, id="tar")])
def test_names_that_lead_outside(pack: Callable[..., Path], name: str, tmp_path: Path) -> None:
    (tmp_path / "deep" / "out").mkdir(parents=True)
    archive = pack(tmp_path / "x", {"good.txt": b"1", name: b"2"})
    with pytest.raises(DataError, match="leads outside the archive's folder; the archive is refused"):
        unpack(archive, tmp_path / "deep" / "out")
    assert sorted(contents(tmp_path)) == ["deep/out/good.txt", "x"]
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, id="symlink"),
        pytest.param({"type": tarfile.LNKTYPE, "linkname": "good.txt"}, id="hard link"),
        pytest.param({"type": tarfile.CHRTYPE}, id="device"),
        pytest.param({"type": tarfile.FIFOTYPE}, id="pipe"),
    ],
)
def test_tar_members_that_are_no_files(header: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    archive = tar_of(tmp_path / "x.tar", {"lnk": b""}, **header)
    with pytest.raises(DataError, match=r"x\.tar: the member 'lnk' is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == {}


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", {"lnk": b"/etc/passwd"}, mode=0o120777)
    with pytest.raises(DataError, match="'lnk' is a link or a device"):
        unpack(archive, tmp_path)


def test_an_encrypted_member(tmp_path: Path) -> None:
    data = bytearray(zip_of(tmp_path / "x.zip", {"secret": b"1"}).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(DataError, match="'secret' is encrypted"):
        unpack(tmp_path / "x.zip", tmp_path)


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        pytest.param(UnpackLimits(max_file_count=3), "more than the 3 members allowed", id="count"),
        pytest.param(UnpackLimits(max_total_bytes=9_999_999), "above the 9999999 bytes allowed", id="total"),
        pytest.param(UnpackLimits(free_bytes=1000), r"times the archive's, above 100: taken for a bomb", id="ratio"),
    ],
)
@pytest.mark.parametrize("mode", ["zip", "w:gz"])
def test_bombs(limits: UnpackLimits, match: str, mode: str, tmp_path: Path) -> None:
    files = {f"{number}": bytes(2_500_000) for number in range(4)}
    archive = zip_of(tmp_path / "x", files) if mode == "zip" else tar_of(tmp_path / "x", files, mode)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=match):
        unpack(archive, tmp_path / "out", limits=limits)
    assert sum(map(len, contents(tmp_path / "out").values())) < 10_000_000


def test_a_size_that_the_header_understates_is_not_believed(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", {"big": bytes(1_000_000)})
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 10)
    archive.write_bytes(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="cannot be read: Bad CRC-32"):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/big").stat().st_size <= 10


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b")], ids=["twice", "file and folder"])
def test_two_members_of_one_name(names: tuple[str, str], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        for name in names:
            packed.addfile(tarfile.TarInfo(name))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="has the name of another member"):
        unpack(tmp_path / "x.tar", tmp_path / "out")


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_damaged_archives(mode: str, tmp_path: Path) -> None:
    files = {"a": bytes(range(256)) * 4000}
    archive = zip_of(tmp_path / "x", files) if mode == "zip" else tar_of(tmp_path / "x", files, mode)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"x: the archive cannot be read: .*; expected a whole zip, tar"):
        unpack(archive, tmp_path / "out")


def test_gzip_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"just text" * 100))
    with pytest.raises(DataError, match=r"x\.gz: the archive cannot be read"):
        unpack(tmp_path / "x.gz", tmp_path)


@pytest.mark.parametrize("pack", [pytest.param(zip_of, id="zip"), pytest.param(tar_of, id="tar")])
def test_a_file_where_a_folder_is_named(pack: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    archive = tmp_path / "x"
    if pack is zip_of:
        zip_of(archive, {"a": b"1", "a/": b""}, mode=0)
    else:
        with tarfile.open(archive, "w") as packed:
            packed.addfile(tarfile.TarInfo("a"))
            folder = tarfile.TarInfo("a")
            folder.type = tarfile.DIRTYPE
            packed.addfile(folder)
    with pytest.raises(DataError, match=r"x: the member 'a/?' has the name of another member"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("pack", [pytest.param(zip_of, id="zip"), pytest.param(tar_of, id="tar")])
def test_names_that_differ_only_in_case(pack: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    files = {"A.jpg": b"upper", "a.jpg": b"lower"}
    archive = pack(tmp_path / "x", files)
    if (tmp_path / "OUT").exists():  # a file system that takes both for one: no file may win unseen
        with pytest.raises(DataError, match="has the name of another member"):
            unpack(archive, tmp_path / "out")
    else:
        unpack(archive, tmp_path / "out")
        assert contents(tmp_path / "out") == files


@pytest.mark.parametrize("pack", [pytest.param(zip_of, id="zip"), pytest.param(tar_of, id="tar")])
def test_a_name_that_no_file_system_takes(pack: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"the member 'xxx.*\.\.\.' has too long a name"):
        unpack(pack(tmp_path / "x", {"x" * 400: b"1"}), tmp_path / "out")


def test_a_name_as_long_as_the_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type = tarfile.GNUTYPE_LONGNAME
    header.size = 3 << 20
    data = tarfile.TarInfo("a").tobuf() + header.tobuf(tarfile.GNU_FORMAT) + b"x" * header.size + bytes(1024)
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.tar: the archive cannot be read: a name of 3145728 bytes"):
        unpack(tmp_path / "x.tar", tmp_path)


def test_zip64(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        with packed.open("a.txt", "w", force_zip64=True) as member:
            member.write(b"sixty-four")
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "x.zip", tmp_path / "out")
    assert contents(tmp_path / "out") == {"a.txt": b"sixty-four"}


def test_an_archive_inside_stays_packed(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner.zip", {"../evil": b"x"}).read_bytes()
    (tmp_path / "out").mkdir()
    unpack(zip_of(tmp_path / "x.zip", {"inner.zip": inner}), tmp_path / "out")
    assert contents(tmp_path / "out") == {"inner.zip": inner}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(gzip.compress(b"just text" * 100), False, id="gzip of a text"),
        pytest.param(gzip.compress(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)), True, id="gzip of a tar"),
        pytest.param(gzip.compress(b"x" * 9000)[:12], True, id="damaged gzip: to be told"),
        pytest.param(b"plain", False, id="text"),
    ],
)
def test_what_is_an_archive(tmp_path: Path, data: bytes, expected: bool) -> None:
    (tmp_path / "x").write_bytes(data)
    assert is_archive(tmp_path / "x") == expected


SMALL = UnpackLimits(max_file_count=50, max_total_bytes=1 << 20)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["zip", "w", "w:gz", "w:xz"]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3),
)
def test_altered_archives_are_unpacked_inside_or_refused_by_name(
    tmp_path: Path, mode: str, changes: list[tuple[float, bytes]]
) -> None:
    files = {"a/b.txt": b"bee", "c.txt": b"sea" * 50, "d/": b""} if mode == "zip" else FILES
    archive = zip_of(tmp_path / "x", files) if mode == "zip" else tar_of(tmp_path / "x", files, mode)
    data = bytearray(archive.read_bytes())
    for place, change in changes:
        at = int(place * (len(data) - 1))
        data[at : at + len(change)] = change
    archive.write_bytes(data)
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    try:
        unpack(archive, out, limits=SMALL)
    except DataError as error:
        assert str(error).startswith("x: ")
    assert all(path.is_relative_to(tmp_path / "deep") or path == archive for path in tmp_path.rglob("*"))
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["out"]
    assert not any(path.is_symlink() for path in out.rglob("*"))
    shutil.rmtree(tmp_path / "deep")
