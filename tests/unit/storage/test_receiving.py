"""Unfinished files: gone on with, taken over, and never in the way."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import contents
from tests.unit.storage.test_web import with_ranges
from visionyard import storage


def test_a_fetch_that_was_killed_before_its_first_byte_is_not_in_the_way(web: Any, tmp_path: Path) -> None:
    body, served = os.urandom(4 << 20), []
    web.answers["/f"] = with_ranges(body, served, ETag='"v1"')
    (tmp_path / ".f.InYxIg.partial").touch()
    storage.fetch_file(web.url + "/f", tmp_path / "f")
    assert served == ["None 0", '"v1" 2097152']
    assert contents(tmp_path) == {"f": body}


def test_what_is_left_of_a_neighbour_is_let_be(web: Any, tmp_path: Path) -> None:
    (tmp_path / ".f.YWJj.IjEi.partial").write_bytes(b"half of f.YWJj")
    storage.fetch_file(web.give("/f", b"whole", ETag='"v1"'), tmp_path / "f")
    assert contents(tmp_path) == {"f": b"whole", ".f.YWJj.IjEi.partial": b"half of f.YWJj"}


def test_what_a_killed_copy_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(os.urandom(3 << 20))
    script = (
        "import os, sys; from pathlib import Path; from visionyard.storage import open_store\n"
        "open_store(sys.argv[1]).fetch(Path(sys.argv[2]), lambda _: os.kill(os.getpid(), 9))\n"
    )
    target = tmp_path / "out" / "copy"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "in"), str(target)], check=False)
    assert done.returncode == -9
    assert len(contents(target.parent)) == 1
    storage.fetch_file(str(tmp_path / "in"), target)
    assert contents(target.parent) == {"copy": (tmp_path / "in").read_bytes()}
