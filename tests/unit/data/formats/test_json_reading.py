"""JSON read value by value, held against the whole file read at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionyard.data.formats import json_reading
from visionyard.data.formats.json_reading import JsonValue, json_values, numbers_of, read_value
from visionyard.errors import DataError

WriteJson = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteJson:
    def write_file(content: str | bytes) -> Path:
        path = tmp_path / "x.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def gathered(values: list[JsonValue]) -> Any:
    """Return the file's value from its parts."""
    if all(not each.key and each.is_entry for each in values):
        return [each.value for each in values]
    whole: dict[str, Any] = {}
    for each in values:
        if each.is_entry:
            whole.setdefault(each.key, []).append(each.value)
        else:
            whole[each.key] = each.value
    return whole


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 1 << 18])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param([], id="empty list"),
        pytest.param([1, -2.5e3, "a", None, True, {"b": [1, [2]]}, []], id="list"),
        pytest.param({"a": 1, "b": [1234567, 8], "c": {"d": ["]", "}", "\\", '"']}, "e": "x"}, id="object"),
        pytest.param({"a": [], "b": [], "c": [[]]}, id="empty lists"),
        pytest.param({"grün": ["日本語", "\u00e9", "a\nb\u2028"], "z": "ß"}, id="letters of other scripts"),
    ],
)
@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"ensure_ascii": False}], ids=["dense", "indented", "utf-8"])
def test_the_parts_are_the_whole(
    write: WriteJson, monkeypatch: pytest.MonkeyPatch, content: Any, layout: dict[str, Any], chunk_bytes: int
) -> None:
    monkeypatch.setattr(json_reading, "_CHUNK_BYTES", chunk_bytes)
    path = write(json.dumps(content, **layout))

    values = list(json_values(path, "x.json"))

    assert gathered(values) == content
    with path.open("rb") as stream:
        assert [read_value(stream, each.start, each.stop) for each in values] == [each.value for each in values]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
    st.sampled_from([1, 3, 64]),
)
def test_any_object_is_read_as_json_does(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], is_ascii: bool, chunk_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(json.dumps(content, ensure_ascii=is_ascii), encoding="utf-8", errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reading, "_CHUNK_BYTES", chunk_bytes)
        try:
            values = list(json_values(path, "x.json"))
        except DataError as error:
            assert "not UTF-8" in str(error)  # a lone surrogate has no UTF-8
            return
    assert gathered(values) == content


def test_a_byte_order_mark_is_passed_over(write: WriteJson) -> None:
    assert gathered(list(json_values(write(b'\xef\xbb\xbf {"a": [1]}'), "x.json"))) == {"a": [1]}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param("", "byte 0: expected an object or a list, found 'its end'", id="empty"),
        pytest.param("  17", "byte 2: expected an object or a list, found '17'", id="number"),
        pytest.param('{"a": 1', "byte 7: expected , or }, found 'its end'", id="cut off"),
        pytest.param('{"a": [1, 2', "byte 11: expected , or ], found 'its end'", id="cut off in a list"),
        pytest.param('{"a": [{"b": 1', "byte 14: Expecting ',' delimiter", id="cut off in an entry"),
        pytest.param('{"a": "b', "byte 6: Unterminated string", id="cut off in a text"),
        pytest.param('{"a" 1}', "byte 5: expected :, found '1}'", id="no colon"),
        pytest.param("{1: 2}", "expected a name in quotation marks", id="number as name"),
        pytest.param('{"a": [1 2]}', "byte 9: expected , or ]", id="no comma"),
        pytest.param('{"a": 1} {"b"', "byte 9: expected the end of the file", id="two objects"),
        pytest.param('{"a": ' + '{"b": ' * 200_000, "nested too deeply", id="deep"),
        pytest.param('{"a": ' + "9" * 5000 + "}", "digits", id="an integer of 5,000 digits"),
        pytest.param(b'{"a": ["\xff\xfe"]}', "byte 7: it is not UTF-8 text", id="not UTF-8"),
        pytest.param('{"a": 1}'.encode("utf-16"), "byte 0: expected an object or a list", id="UTF-16"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(99), "byte 0: expected an object", id="picture"),
    ],
)
def test_what_is_not_json_is_refused(write: WriteJson, content: str | bytes, match: str) -> None:
    with pytest.raises(DataError, match=f"x.json: not usable JSON at .*{match}".replace("[", r"\[")):
        list(json_values(write(content), "x.json"))


def test_a_value_that_never_ends_is_refused_before_it_fills_the_memory(
    write: WriteJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_reading, "_CHUNK_BYTES", 64)
    path = write('{"a": [1, "' + "x" * 10_000)
    values = json_values(path, "x.json", max_value_bytes=1000)
    assert next(values).value == 1
    with pytest.raises(DataError, match="byte 10: it is longer than the 1000 bytes"):
        next(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([1, 2.5], (1.0, 2.5), id="numbers"),
        pytest.param([], (), id="none"),
        pytest.param([1, "2"], None, id="text"),
        pytest.param([1, True], None, id="bool"),
        pytest.param([1, False], None, id="false"),
        pytest.param([1, None], None, id="null"),
        pytest.param("12", None, id="no list"),
        pytest.param({"a": 1}, None, id="object"),
        pytest.param([10**400, 1], (float("inf"),) * 2, id="beyond any float"),
    ],
)
def test_numbers(values: Any, expected: tuple[float, ...] | None) -> None:
    assert numbers_of(values) == expected
