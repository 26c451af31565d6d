"""Sources that are no folder: one file, archives, addresses on the web."""

import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.fixtures.source_files import items, write
from visionyard.data.artifacts import read_manifest
from visionyard.data.ingest import ingest
from visionyard.errors import StorageError


def test_one_file_may_be_the_source(tmp_path: Path, target: Path) -> None:
    rows = "".join(f"{n / 7:.3f},{'cat' if n % 2 else 'dog'}\n" for n in range(40))
    source = write(tmp_path / "src", {"rows.csv": f"weight,animal\n{rows}"})
    report = ingest(f"{source}/rows.csv", target, kind="table", target_column="animal")
    assert report.classes == ("cat", "dog")
    manifest = read_manifest(target, "sources")
    assert (manifest["kind"], manifest["task"], manifest["row_count"]) == ("table", "table", 40)


def zipped(folder: str, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(Path(folder).rglob("*")):
            packed.write(file, Path("wrapped") / file.relative_to(folder))
    return path


def tarred(folder: str, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        packed.add(folder, "wrapped")
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_is_as_good_as_its_folder(
    by_class: str, target: Path, tmp_path: Path, pack: Callable[[str, Path], Path]
) -> None:
    archive = pack(by_class, tmp_path / "set.bin")
    report = ingest(str(archive), target, group_pattern="(cat|dog)")
    assert [item.source for item in items(target)] == ["wrapped/cat/1.jpg", "wrapped/cat/2.png", "wrapped/dog/1.jpg"]
    assert report.classes == ("cat", "dog")
    assert [path.name for path in target.parent.iterdir()] == ["sources"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_archive_on_the_web(by_class: str, tmp_path: Path, target: Path, web: str) -> None:
    tarred(by_class, tmp_path / "set.tar.gz")
    report = ingest(web + "/set.tar.gz?token=s3cr3t", target)
    assert (report.image_count, report.classes) == (3, ("cat", "dog"))
    assert [path.name for path in target.parent.iterdir()] == ["sources"]
    assert "s3cr3t" not in json.dumps(read_manifest(target, "sources"))
    with pytest.raises(StorageError, match=r"/gone\.zip: expected files there, found none"):
        ingest(web + "/gone.zip", target.with_name("other"))
    assert [path.name for path in target.parent.iterdir()] == ["sources"]
