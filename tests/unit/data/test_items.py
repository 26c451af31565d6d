"""Items, clips and problems go through JSON lines and come back equal."""

import json
from pathlib import Path

import pytest

from visionyard.data.items import (
    Box,
    Clip,
    Item,
    Problem,
    Problems,
    Track,
    TrackShape,
    read_json_lines,
    write_json_lines,
)
from visionyard.data.shards import Blob

BLOB = Blob("images-00000.tar", 512, 100)


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(Item("k", "a/é.jpg", "g", "ab", 4, 3, BLOB), id="unlabelled"),
        pytest.param(Item("k", "a.jpg", "g", "ab", 4, 3, BLOB, class_name="car"), id="classification"),
        pytest.param(Item("k", "a.jpg", "g", "ab", 4, 3, BLOB, boxes=()), id="nothing is there"),
        pytest.param(
            Item(
                "k",
                "a.mp4",
                "g",
                "ab",
                4,
                3,
                BLOB,
                boxes=(Box("car", (0.5, 1.0, 2.0, 3.0)), Box("car", (0.0, 0.0, 1.0, 1.0))),
                timestamp_s=1.25,
                published_split="val",
            ),
            id="detection",
        ),
    ],
)
def test_items_come_back_equal(tmp_path: Path, item: Item) -> None:
    path = tmp_path / "images.jsonl"
    assert write_json_lines(path, [item.to_json()]) == 1
    assert [Item.from_json(values) for values in read_json_lines(path)] == [item]


@pytest.mark.parametrize(
    "tracks",
    [None, (), (Track("car", (TrackShape(0, (0.0, 0.0, 1.0, 1.0)), TrackShape(5, (1.0, 1.0, 2.0, 2.0), True))),)],
    ids=["not annotated", "nothing is there", "one track"],
)
def test_clips_come_back_equal(tracks: tuple[Track, ...] | None) -> None:
    clip = Clip("a.mp4", "a", "ab", "video/mp4", BLOB, tracks=tracks)
    assert Clip.from_json(json.loads(json.dumps(clip.to_json()))) == clip


def test_problems_are_kept_and_counted() -> None:
    problems = Problems()
    problems.add("tiny_image", "a.jpg", "8x8 px")
    problems.add("box_outside_image", "b.xml", "[9, 9, 10, 10]", "object 3")
    problems.add("box_outside_image", "c.xml", "[9, 9, 10, 10]")
    assert problems.counts() == {"box_outside_image": 2, "tiny_image": 1}
    assert list(problems.counts()) == ["box_outside_image", "tiny_image"]
    assert problems.found[1] == Problem("box_outside_image", "b.xml", "[9, 9, 10, 10]", "object 3")
    assert Problem(**problems.found[1].to_json()) == problems.found[1]


def test_lines_hold_no_nan_and_keep_letters(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json_lines(tmp_path / "x", [{"x": float("nan")}])
    write_json_lines(tmp_path / "y", [{"b": "é", "a": 1}])
    assert (tmp_path / "y").read_text(encoding="utf-8") == '{"a": 1, "b": "é"}\n'
    assert write_json_lines(tmp_path / "z", []) == 0
    assert list(read_json_lines(tmp_path / "z")) == []
