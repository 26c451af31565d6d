"""Class map files as they are in real use, and what is wrong with others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionyard.data.formats.class_maps import MapEntry, parse_class_map
from visionyard.errors import DataError

ROAD, SKY = MapEntry("road", 0), MapEntry("sky", 7)
RED, BLUE = MapEntry("car", colour=(255, 0, 0)), MapEntry("sea", colour=(0, 0, 255))


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        pytest.param("class_dict.csv", "name,r,g,b\ncar,255,0,0\nsea,0,0,255\n", [RED, BLUE], id="CamVid CSV"),
        pytest.param("a/class_dict.csv", "name, r, g, b\r\ncar, 255, 0, 0\r\n\r\n", [RED], id="spaces, CRLF"),
        pytest.param("_classes.csv", "Pixel Value, Class\n0, road\n7, sky\n", [ROAD, SKY], id="Roboflow"),
        pytest.param("classes.csv", "id,name,color\n0,road,#ff0000\n", [MapEntry("road", 0, (255, 0, 0))], id="both"),
        pytest.param("label_colors.txt", "255 0 0\t\tcar\n0 0 255\t\tsea\n", [RED, BLUE], id="CamVid text"),
        pytest.param(
            "labelmap.txt", "# label:color_rgb:parts:actions\ncar:255,0,0::\nsea:0,0,255::\n", [RED, BLUE], id="CVAT"
        ),
        pytest.param(
            "codes.txt", "Traffic Light\n\nsky\n", [MapEntry("Traffic Light", 0), MapEntry("sky", 1)], id="names"
        ),
        pytest.param("classes.json", '["road", "sky"]', [ROAD, MapEntry("sky", 1)], id="JSON names"),
        pytest.param("classes.json", '{"road": 0, "sky": 7}', [ROAD, SKY], id="names to numbers"),
        pytest.param("classes.json", '{"0": "road", "7": "sky"}', [ROAD, SKY], id="numbers to names"),
        pytest.param("classes.json", '{"car": [255, 0, 0], "sea": "#0000FF"}', [RED, BLUE], id="names to colours"),
        pytest.param("classes.json", '{"7": {"name": "sky"}}', [SKY], id="numbers to objects"),
        pytest.param("classes.json", '{"classes": [{"title": "car", "color": "#FF0000"}]}', [RED], id="Supervisely"),
        pytest.param(
            "label_classes.json",
            '[{"png_index": 7, "class_name": "sky", "color": "#0000ffaa", "class_type": "object"}]',
            [MapEntry("sky", 7, (0, 0, 255))],
            id="Hasty",
        ),
    ],
)
def test_files_in_real_use(file: str, text: str, expected: list[MapEntry]) -> None:
    assert parse_class_map(text, file) == expected


def test_one_class_may_have_several_colours() -> None:
    entries = parse_class_map("0 0 0 Void\n1 1 1 Void\n", "label_colors.txt")
    assert [(entry.name, entry.colour) for entry in entries] == [("Void", (0, 0, 0)), ("Void", (1, 1, 1))]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        pytest.param("classes.txt", "\n \n", r"classes\.txt: holds no class", id="empty"),
        pytest.param("classes.csv", "", r"classes\.csv: line 1 is ''", id="empty CSV"),
        pytest.param("classes.csv", "car,1,2,3\n", r"line 1 is 'car,1,2,3'; expected a header", id="no header"),
        pytest.param("classes.csv", "name,r,g,b\ncar,1,2\n", r"line 2 has 3 values, the header 4", id="short line"),
        pytest.param("classes.csv", "name,r,g,b\ncar,1,2,256\n", r"line 2: expected a colour .* got .*256", id="256"),
        pytest.param(
            "classes.csv", "id,name\n-1,car\n", r"line 2: expected a number from 0 to 65535, got '-1'", id="-1"
        ),
        pytest.param("classes.csv", "id,name\n70000,car\n", r"got '70000'", id="beyond 16 bits"),
        pytest.param("classes.csv", "id,name\n0,\n", r"line 2: expected a class name, got ''", id="no name"),
        pytest.param("classes.csv", "id,name\n0,a\n0,b\n", r"the number 0 stands for 'a', 'b'", id="number twice"),
        pytest.param("l.txt", "1 2 3 a\n1 2 3 b\n", r"the colour 1,2,3 stands for 'a', 'b'", id="colour twice"),
        pytest.param("l.txt", "1 2 3 a\nroad\n", r"line 2 is 'road', unlike the others", id="mixed lines"),
        pytest.param("l.json", '{"a": 0, "b": [1, 2, 3]}', r"some classes have a number or colour", id="mixed"),
        pytest.param("l.json", "{", r"l\.json: not valid JSON", id="broken JSON"),
        pytest.param("l.json", "[" * 100_000, r"l\.json: not valid JSON", id="deep JSON"),
        pytest.param("l.json", "3", r"expected a list or an object of classes, got '3'", id="a number"),
        pytest.param("l.json", "[3]", r"entry 1: expected a name or an object", id="a list of numbers"),
        pytest.param("l.json", '{"a": [1, 2]}', r"l\.json: 'a': expected a colour", id="two channels"),
        pytest.param("l.json", '{"a": true}', r"l\.json: 'a': expected a colour", id="a flag"),
        pytest.param("l.json", '["road", " "]', r"l\.json: a class has an empty name", id="an empty name"),
        pytest.param("l.json", '{"": 3}', r"l\.json: a class has an empty name", id="a number without a name"),
        pytest.param("l.csv", "name,id\n\n\ncar\n", r"line 4 has 1 values", id="blank lines count"),
        pytest.param("l.txt", "".join(f"c{n}\n" for n in range(256)), r"more than 255 classes", id="256 classes"),
    ],
)
def test_other_files_are_refused(file: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_class_map(text, file)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["a.csv", "a.json", "a.txt"]),
    st.text(st.sampled_from('name,rgbid0123456789#:[]{}"\n\t -'), max_size=80),
)
def test_any_text_is_read_or_refused_by_name(file: str, text: str) -> None:
    try:
        entries = parse_class_map(text, file)
    except DataError as error:
        assert str(error).startswith(file)
    else:
        assert all(entry.name for entry in entries)
