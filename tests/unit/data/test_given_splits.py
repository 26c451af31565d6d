"""Splits given in a file: read, held against the data, followed, and told where they divide what belongs together."""

import json
from pathlib import Path
from typing import Any

import pytest

from visionyard.data.artifacts import read_problems
from visionyard.data.dataset import DATASET, Dataset
from visionyard.data.given_splits import assign_given, read_given_splits, split_rows, split_text
from visionyard.data.items import SPLITS
from visionyard.data.prepare import DatasetReport, prepare_dataset
from visionyard.errors import ConfigError, SplitError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def prepare(artifacts: Any, target: Path, rows: str, **options: Any) -> DatasetReport:
    file = write(target.with_name(f"{target.name}.csv"), f"name,split\n{rows}")
    return prepare_dataset(artifacts.sources, artifacts.frames, target, split_file=file, **options)


def splits_of(folder: Path) -> dict[str, set[str]]:
    """Return the splits that images of each group stand in."""
    dataset = Dataset(folder)
    found: dict[str, set[str]] = {}
    for split in SPLITS:
        for sample in dataset.samples(split):
            found.setdefault(sample.group, set()).add(split)
    return found


def codes(folder: Path) -> set[str]:
    return {problem.code for problem in read_problems(folder)}


@pytest.fixture
def eight_clips(build_artifacts: Any, image_spec: Any) -> Any:
    """Eight clips of three frames, `clips/clip0.mp4` and so on; cars in all."""
    frames = [
        image_spec(
            f"clip{clip}-{frame}",
            group=f"clips/clip{clip}.mp4",
            source=f"clips/clip{clip}.mp4",
            boxes=(("car", (1, 2, 20, 30)),),
            timestamp_s=frame / 2,
        )
        for clip in range(8)
        for frame in range(3)
    ]
    return build_artifacts(frames=frames, classes=["car"])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("name,split\na,train\nb/c.png,test\n", id="header"),
        pytest.param("a,train\nb/c.png,test\n", id="no header"),
        pytest.param("train\ta\ntest\tb/c.png\n", id="split first, tabs"),
        pytest.param("subset;note;clip\ntraining;x;a\ntest;;./b\\c.png\n", id="other words and columns"),
        pytest.param("image_id,split\na,train\nb/c.png,TEST\na,Train\n", id="own word, said twice alike"),
    ],
)
def test_a_table_of_names_and_splits_is_read_however_it_is_written(text: str, tmp_path: Path) -> None:
    given = read_given_splits(write(tmp_path / "splits.csv", text))
    assert given.of_name == {"a": "train", "b/c.png": "test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "it is empty", id="empty"),
        pytest.param("name,split\n", "no row but its header", id="header alone"),
        pytest.param("a,b,c\n1,2,3\n", "its first row is a, b, c; expected columns name and split", id="other columns"),
        pytest.param("name,split\na,trian\n", "line 2: a: split 'trian', expected train, val or test", id="split"),
        pytest.param("name,split\na,\n", "line 2: a: split ''", id="no split"),
        pytest.param("name,split\n,train\n", "line 2: the name is empty", id="no name"),
        pytest.param("name,split\na\n", "line 2: 1 cells", id="short row"),
        pytest.param("a,val\nb,val\na,test\n", "line 3: a is in test, by line 1 in val", id="two splits"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=message):
        read_given_splits(write(tmp_path / "splits.csv", text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.split_file = '.*none.csv': no such file"):
        read_given_splits(str(tmp_path / "none.csv"))


def test_what_is_named_stands_where_the_file_says_and_the_rest_is_drawn_around_it(
    eight_clips: Any, tmp_path: Path
) -> None:
    # By path, by the end of the path, and a group: all are names.
    report = prepare(eight_clips, tmp_path / "dataset", "clips/clip3.mp4,test\nclip5.mp4,val\nclip0.mp4,test\n")
    found = splits_of(tmp_path / "dataset")
    assert (found["clips/clip3.mp4"], found["clips/clip5.mp4"], found["clips/clip0.mp4"]) == (
        {"test"},
        {"val"},
        {"test"},
    )
    # The shares of the whole stand: two of eight clips for test are enough.
    assert report.group_counts == {"train": 5, "val": 1, "test": 2}
    info = json.loads((tmp_path / "dataset" / DATASET).read_text())
    assert info["splitting"]["split_file_sha256"] == read_given_splits(str(tmp_path / "dataset.csv")).sha256
    assert not report.is_leaky


@pytest.mark.parametrize("rows", ["a.png,train\nx/a.png,test\n", "x/a.png,test\na.png,train\n"], ids=["short", "long"])
def test_of_two_ends_of_a_path_the_longer_one_counts(rows: str, image_spec: Any, tmp_path: Path) -> None:
    given = read_given_splits(write(tmp_path / "splits.csv", f"name,split\n{rows}"))
    item = image_spec("one", group="g", source="photos/x/a.png")
    assert assign_given(given, [item]).splits == ("test",)


def test_the_same_file_gives_the_same_version_and_another_one_another(eight_clips: Any, tmp_path: Path) -> None:
    first = prepare(eight_clips, tmp_path / "a", "clip3.mp4,test\n")
    again = prepare(eight_clips, tmp_path / "b", "clip3.mp4,test\n")
    other = prepare(eight_clips, tmp_path / "c", "clip3.mp4,train\n")
    assert first.digest == again.digest != other.digest


def test_a_file_that_names_all_is_taken_as_it_is(build_artifacts: Any, clips: Any, tmp_path: Path) -> None:
    # A single clip of dogs: a draw would refuse it.
    artifacts = build_artifacts(frames=[*clips("cat", 3), *clips("dog", 1)])
    report = prepare(artifacts, tmp_path / "dataset", "cat/0,train\ncat/1,val\ncat/2,test\ndog/0,train\n")
    assert report.item_counts == {"train": 8, "val": 4, "test": 4}
    assert "class_missing_in_split" in codes(tmp_path / "dataset")


def test_a_file_that_names_all_and_leaves_a_split_empty_is_refused(
    build_artifacts: Any, clips: Any, tmp_path: Path
) -> None:
    artifacts = build_artifacts(frames=[*clips("cat", 2), *clips("dog", 2)])
    rows = "cat/0,train\ncat/1,test\ndog/0,train\ndog/1,test\n"
    with pytest.raises(SplitError, match="names every item and none for val"):
        prepare(artifacts, tmp_path / "dataset", rows)


def test_a_clip_that_the_file_divides_is_divided_told_and_leaks(eight_clips: Any, tmp_path: Path) -> None:
    # An item's own row wins over that of its clip.
    report = prepare(eight_clips, tmp_path / "dataset", "clip2.mp4,train\nclip2-1,test\n")
    assert splits_of(tmp_path / "dataset")["clips/clip2.mp4"] == {"train", "test"}
    assert {sample.key for sample in Dataset(tmp_path / "dataset").samples("test")} >= {"clip2-1"}
    (problem,) = [one for one in read_problems(tmp_path / "dataset") if one.code == "split_file_divides_group"]
    assert problem.file == "clips/clip2.mp4" and "1 groups" in problem.message
    assert (report.is_leaky, report.group_overlap) == (True, 1)


def test_images_that_show_the_same_are_divided_told_and_counted(
    build_artifacts: Any, image_spec: Any, encode_image: Any, random_picture: Any, tmp_path: Path
) -> None:
    pictures = {f"{number}": encode_image(random_picture(number, size_hw=(240, 320))) for number in range(7)}
    pictures["copy"] = encode_image(random_picture(0, size_hw=(240, 320), noise_seed=1), quality=60)
    images = [
        image_spec(key, boxes=(("car", (1, 2, 20, 30)),), data=data, size_hw=(240, 320))
        for key, data in pictures.items()
    ]
    artifacts = build_artifacts(images, classes=["car"])
    report = prepare(artifacts, tmp_path / "dataset", "0.jpg,train\ncopy.jpg,test\n")
    assert splits_of(tmp_path / "dataset")["copy"] == {"test"}
    assert "split_file_divides_near_duplicates" in codes(tmp_path / "dataset")
    assert (report.near_duplicate_pairs, report.is_leaky) == (1, True)
    # With both on one side nothing leaks.
    report = prepare(artifacts, tmp_path / "together", "0.jpg,test\n")
    assert splits_of(tmp_path / "together")["copy"] == {"test"}
    assert (report.near_duplicate_pairs, report.is_leaky) == (0, False)


def test_a_name_that_is_nothing_is_refused_with_the_likest_one(eight_clips: Any, tmp_path: Path) -> None:
    message = r"1 names are no item.*line 3: clips/clip9.mp4 \(did you mean clips/clip\d.mp4\?\)"
    with pytest.raises(SplitError, match=message):
        prepare(eight_clips, tmp_path / "dataset", "clip2.mp4,train\nclips/clip9.mp4,test\n")
    assert not (tmp_path / "dataset").exists()


def test_a_name_of_two_paths_is_refused(build_artifacts: Any, image_spec: Any, tmp_path: Path) -> None:
    images = [
        image_spec(f"{folder}-{n}", source=f"{folder}/{n}.jpg", group=f"{folder}/{n}.jpg", class_name=folder)
        for folder in ("a", "b")
        for n in range(3)
    ]
    with pytest.raises(SplitError, match=r"line 2: 1.jpg may be a/1.jpg or b/1.jpg"):
        prepare(build_artifacts(images), tmp_path / "dataset", "1.jpg,train\n")


def test_a_name_of_what_was_left_out_is_told(build_artifacts: Any, image_spec: Any, tmp_path: Path) -> None:
    images = [image_spec(f"i{n}", boxes=(("car", (1, 2, 20, 30)),)) for n in range(6)]
    images.append(image_spec("twin", boxes=(("car", (1, 2, 20, 30)),), data=images[0].encoded()))
    prepare(build_artifacts(images, classes=["car"]), tmp_path / "dataset", "i1.jpg,test\ni0.jpg,val\ntwin.jpg,train\n")
    assert "split_row_unused" in codes(tmp_path / "dataset")


def test_it_wins_over_the_splits_of_the_source(build_artifacts: Any, image_spec: Any, tmp_path: Path) -> None:
    images = [image_spec(f"i{n}", boxes=(("car", (1, 2, 20, 30)),), published_split=SPLITS[n % 3]) for n in range(9)]
    artifacts = build_artifacts(images, classes=["car"])
    prepare(artifacts, tmp_path / "dataset", "i0.jpg,test\n", split_mode="published")
    found = splits_of(tmp_path / "dataset")
    assert found["i0"] == {"test"}
    assert all(found[f"i{n}"] == {SPLITS[n % 3]} for n in range(1, 9))


def test_it_wins_over_an_earlier_version_and_says_so(eight_clips: Any, tmp_path: Path) -> None:
    first = prepare(eight_clips, tmp_path / "first", "clip1.mp4,train\nclip2.mp4,test\n")
    assert "split_file_changes_previous" not in codes(tmp_path / "first") and not first.is_leaky
    prepare(eight_clips, tmp_path / "second", "clip1.mp4,test\n", previous=str(tmp_path / "first"))
    before, after = splits_of(tmp_path / "first"), splits_of(tmp_path / "second")
    assert after.pop("clips/clip1.mp4") == {"test"} != before.pop("clips/clip1.mp4")
    assert after == before
    assert "split_file_changes_previous" in codes(tmp_path / "second")


@pytest.mark.parametrize("rows", ["", "clip2.mp4,train\nclip2-1,test\n"], ids=["whole", "divided"])
def test_the_splits_of_a_version_make_the_same_version_again(rows: str, eight_clips: Any, tmp_path: Path) -> None:
    first = prepare(eight_clips, tmp_path / "first", rows or "clip0.mp4,train\n", split_seed=5)
    names = split_rows(Dataset(tmp_path / "first"))
    assert len(names) == (10 if rows else 8)
    assert ("clip2-1", "test") in names or not rows
    (tmp_path / "kept.csv").write_text(split_text(names))
    again = prepare_dataset(
        *(eight_clips.sources, eight_clips.frames, tmp_path / "again"), split_file=str(tmp_path / "kept.csv")
    )
    assert again.digest == first.digest


def test_a_group_is_known_with_or_without_a_slash_at_its_end(
    build_artifacts: Any, image_spec: Any, tmp_path: Path
) -> None:
    images = [
        image_spec(f"i{n}-{m}", group=f"session-{n}/", boxes=(("car", (1, 2, 20, 30)),))
        for n in range(4)
        for m in range(2)
    ]
    prepare(build_artifacts(images, classes=["car"]), tmp_path / "dataset", "session-2/,test\nsession-3,val\n")
    found = splits_of(tmp_path / "dataset")
    assert (found["session-2/"], found["session-3/"]) == ({"test"}, {"val"})


def test_folds_draw_all_and_take_no_file(eight_clips: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.split_file with data.folds = 3"):
        prepare(eight_clips, tmp_path / "dataset", "clip1.mp4,test\n", folds=3)
