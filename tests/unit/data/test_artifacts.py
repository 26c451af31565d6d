"""Manifests: what is read is what was written, and what is not understood is refused."""

from pathlib import Path

import pytest

from visionyard.data.artifacts import PROBLEMS, read_manifest, read_problems, write_manifest
from visionyard.data.items import Problem, write_json_lines
from visionyard.errors import ArtifactError


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    write_manifest(tmp_path, "sources", {"classes": ["é"], "image_count": 3})
    assert read_manifest(tmp_path, "sources") == {
        "schema_version": 1,
        "artifact": "sources",
        "classes": ["é"],
        "image_count": 3,
    }
    first = (tmp_path / "manifest.json").read_bytes()
    write_manifest(tmp_path, "sources", {"image_count": 3, "classes": ["é"]})
    assert (tmp_path / "manifest.json").read_bytes() == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "expected a frames folder with manifest.json, found none", id="absent"),
        pytest.param("{", "not valid JSON", id="cut short"),
        pytest.param("[]", "schema_version None is not known", id="a list"),
        pytest.param("{}", "schema_version None is not known, expected 1", id="no version"),
        pytest.param('{"schema_version": 2, "artifact": "frames"}', "schema_version 2 is not known", id="newer"),
        pytest.param(
            '{"schema_version": 1, "artifact": "sources"}', "expected a frames folder, got 'sources'", id="other kind"
        ),
        pytest.param('"\\xff', "not valid JSON", id="not text"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_bytes(text.encode().replace(b"\\xff", b"\xff"))
    with pytest.raises(ArtifactError, match=message):
        read_manifest(tmp_path, "frames")


def test_problems_are_read_in_order_and_may_be_absent(tmp_path: Path) -> None:
    assert read_problems(tmp_path) == []
    problems = [Problem("b", "x", "first"), Problem("a", "y", "second", "box 1")]
    write_json_lines(tmp_path / PROBLEMS, (problem.to_json() for problem in problems))
    assert read_problems(tmp_path) == problems


def test_values_must_be_plain(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_manifest(tmp_path, "sources", {"path": Path("x")})


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"photo.jpg: expected a dataset folder with dataset.json, found none"):
        read_manifest(file, "dataset", name="dataset.json")
