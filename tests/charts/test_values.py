"""The chart's values: each explained, and README, schema and copies made from them."""

from typing import Any

import jsonschema
import pytest

from charts import make_chart

VALUES = make_chart.read_values((make_chart.CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = make_chart.schema(VALUES)


def test_readme_schema_and_copies_are_those_that_the_values_make() -> None:
    assert make_chart.stale_files(make_chart.files(), is_check=True) == [], "run `make chart`"


def test_the_defaults_fit_the_schema() -> None:
    defaults = {value.path[0]: value.default for value in VALUES}

    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(defaults, SCHEMA)


def _open_objects(schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the paths of objects that take any key."""
    found = []
    if schema.get("type") == "object" and schema.get("additionalProperties", True) is True:
        found.append(path)
    for key, inner in schema.get("properties", {}).items():
        found += _open_objects(inner, f"{path}.{key}")
    return found


def test_every_object_of_the_schema_is_closed_but_those_that_others_check() -> None:
    assert _open_objects(SCHEMA) == [".global", ".receiver.config", ".schedules.file"]


def test_a_value_without_a_comment_is_refused_by_its_path() -> None:
    with pytest.raises(make_chart.ChartError, match=r"store\.kind has no `# --` comment"):
        make_chart.read_values("# -- Store.\nstore:\n  kind: minio\n")


def test_an_annotation_narrows_what_the_default_implies() -> None:
    values = make_chart.read_values('# -- Kind.\n# @schema {"enum": ["a", "b"]}\nkind: a\n')

    assert make_chart.schema(values)["properties"]["kind"] == {
        "description": "Kind.",
        "type": "string",
        "enum": ["a", "b"],
    }


def test_a_stale_file_is_named_and_only_written_when_asked(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_chart, "ROOT", tmp_path)

    assert make_chart.stale_files({"a/b.txt": "new"}, is_check=True) == ["a/b.txt"]
    assert not (tmp_path / "a/b.txt").exists()
    assert make_chart.stale_files({"a/b.txt": "new"}, is_check=False) == ["a/b.txt"]
    assert (tmp_path / "a/b.txt").read_text() == "new"
    assert make_chart.stale_files({"a/b.txt": "new"}, is_check=True) == []
