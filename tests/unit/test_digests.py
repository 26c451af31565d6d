"""Digests depend on content and on nothing else."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from visionyard import digests


def test_known_digests() -> None:
    # FIPS 180-2, appendix B.1, and the digest of no bytes.
    assert digests.sha256_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digests.sha256_bytes(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1], ids=str)
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert digests.sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_canonical_json_ignores_order_and_keeps_letters() -> None:
    assert digests.canonical_json({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'
    assert digests.digest_of({"a": 1, "b": 2}) == digests.digest_of({"b": 2, "a": 1})
    assert json.loads(digests.canonical_json({"x": 0.1})) == {"x": 0.1}


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "infinity"])
def test_canonical_json_refuses_what_is_not_a_number(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        digests.canonical_json({"x": value})


def test_lines_are_told_apart_by_their_ends() -> None:
    assert digests.digest_of_lines(["ab", "c"]) == hashlib.sha256(b"ab\nc\n").hexdigest()
    assert digests.digest_of_lines(["ab", "c"]) != digests.digest_of_lines(["a", "bc"])
    assert digests.digest_of_lines([]) == hashlib.sha256(b"").hexdigest()


def test_folder_digest_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    for name, order in (("one", ["a", "b/c"]), ("two", ["b/c", "a"])):
        for path in order:
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(path)
    os.utime(tmp_path / "one" / "a", (1, 1))
    digest = digests.digest_of_folder(tmp_path / "one")
    assert digest == digests.digest_of_folder(tmp_path / "two")
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "d")
    assert digest != digests.digest_of_folder(tmp_path / "two")
    (tmp_path / "one" / "a").write_text("other")
    assert digest != digests.digest_of_folder(tmp_path / "one")


def test_code_digest_is_stable() -> None:
    assert digests.code_digest() == digests.code_digest()
    assert len(digests.code_digest()) == 64
