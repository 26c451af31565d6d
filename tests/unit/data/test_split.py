"""The rules of the split: groups stay whole, classes stand where they must, and what is impossible is refused."""

from array import array
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionyard.data.items import Problems, Split
from visionyard.data.leaks.union_find import join_groups
from visionyard.data.previous import PreviousSplits, kept_splits
from visionyard.data.records import Record
from visionyard.data.split import Splitting, assign_splits
from visionyard.errors import SplitError


def record(
    key: str, group: str, class_ids: tuple[int, ...], published: Split | None = None, *, is_detection: bool = False
) -> Record:
    xyxy = array("d", [0.0, 0.0, 1.0, 1.0] * len(class_ids)) if is_detection else None
    return Record(
        key=key,
        source=f"{group}.mp4",
        group=group,
        timestamp_s=None,
        width=10,
        height=10,
        sha256=key.encode(),
        published_split=published,
        artifact=0,
        shard="",
        offset=0,
        size=0,
        extension="jpg",
        class_ids=class_ids,
        xyxy=xyxy,
    )


def clips(shown: Mapping[str, tuple[int, ...]], *, frames: int = 3, is_detection: bool = False) -> list[Record]:
    """Return frames of clips, each showing these classes."""
    return [
        record(f"{group}-{frame}", group, class_ids, is_detection=is_detection)
        for group, class_ids in shown.items()
        for frame in range(frames)
    ]


def split(
    records: Sequence[Record],
    classes: Sequence[str],
    *,
    joined: dict[str, str] | None = None,
    mode: str = "group",
    seed: int = 0,
    problems: Problems | None = None,
    kept: Mapping[str, Split] | None = None,
) -> list[Split]:
    return assign_splits(
        records,
        joined or {},
        task="detection" if any(item.xyxy is not None for item in records) else "classification",
        classes=classes,
        splitting=Splitting(mode, 0.15, 0.2, seed),
        problems=Problems() if problems is None else problems,
        kept=kept,
    )


def splits_of_groups(records: Sequence[Record], splits: Sequence[Split]) -> dict[str, set[Split]]:
    found: dict[str, set[Split]] = {}
    for item, name in zip(records, splits, strict=True):
        found.setdefault(item.group, set()).add(name)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_each_class_is_in_each_split(seed: int) -> None:
    records = clips({f"{name}{clip}": (class_id,) for class_id, name in enumerate("abc") for clip in range(4)})
    splits = split(records, ["a", "b", "c"], seed=seed)
    assert all(len(found) == 1 for found in splits_of_groups(records, splits).values())
    seen = {(item.class_ids[0], name) for item, name in zip(records, splits, strict=True)}
    assert len(seen) == 9


def test_the_order_of_listing_does_not_matter() -> None:
    records = clips({f"{name}{clip}": (class_id,) for class_id, name in enumerate("ab") for clip in range(6)})
    backwards = records[::-1]
    assert split(records, ["a", "b"]) == split(backwards, ["a", "b"])[::-1]


def test_joined_groups_stay_together() -> None:
    records = clips({f"{name}{clip}": (class_id,) for class_id, name in enumerate("ab") for clip in range(5)})
    joined = join_groups([("a0", "a1"), ("a1", "b3")])
    for seed in range(6):
        found = splits_of_groups(records, split(records, ["a", "b"], joined=joined, seed=seed))
        assert found["a0"] == found["a1"] == found["b3"]


def test_joining_is_transitive_and_names_the_first() -> None:
    joined = join_groups([("d", "c"), ("b", "d"), ("x", "x"), ("z", "y")])
    assert joined == {"b": "b", "c": "b", "d": "b", "x": "x", "y": "y", "z": "y"}
    assert join_groups([]) == {}


@pytest.mark.parametrize(
    ("records", "classes", "message"),
    [
        pytest.param(
            clips({"a0": (0,), "b0": (1,)}),
            ["a", "b"],
            r"need 3 groups .* found 2: a0, b0\.",
            id="two groups",
        ),
        pytest.param(
            clips({f"a{clip}": (0,) for clip in range(5)}),
            ["a"],
            r"class 'a' is the only one of 15 images; .* two classes or more: add images of another class",
            id="one class",
        ),
        pytest.param(
            clips({"a0": (0,), "a1": (0,), "a2": (0,), "dog/x": (1,), "cat1": (2,), "cat2": (2,)}),
            ["a", "dog", "cat", "cow"],
            r"train, val and test, so it needs 3 groups .*: class 'dog' has 1 group \(dog/x\); "
            r"class 'cat' has 2 groups \(cat1, cat2\); class 'cow' has 0 groups\. "
            r"Add clips .* data\.classes, .* data\.group_pattern, .* data\.split_mode = published",
            id="all classes with too few groups",
        ),
        pytest.param(
            clips({"a": (0,), "b": (0,), "c": (0, 1)}, is_detection=True),
            ["car", "bus"],
            r"train and test, so it needs 2 groups .*: class 'bus' has 1 group \(c\)\.",
            id="detection with one group",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(records: list[Record], classes: list[str], message: str) -> None:
    with pytest.raises(SplitError, match=message):
        split(records, classes)


def test_groups_joined_by_identical_images_are_told_as_one() -> None:
    records = clips({"a0": (0,), "a1": (0,), "a2": (0,), "b0": (1,), "b1": (1,), "b2": (1,)})
    with pytest.raises(SplitError, match=r"class 'b' has 2 groups \(b0 = b1, b2\)"):
        split(records, ["a", "b"], joined=join_groups([("b0", "b1")]))


def test_many_joined_groups_are_not_all_named() -> None:
    records = clips({f"g{number}": (0,) for number in range(9)} | {f"b{number}": (1,) for number in range(3)})
    joined = join_groups([("g0", f"g{number}") for number in range(1, 9)])
    with pytest.raises(SplitError, match=r"class 'a' has 1 group \(g0 = g1 = g2 = g3 = g4 and 4 more\)"):
        split(records, ["a", "b"], joined=joined)


def test_detection_class_with_two_groups_is_in_train_and_test() -> None:
    shown: dict[str, tuple[int, ...]] = {f"g{number}": (0,) for number in range(6)} | {"r1": (0, 1), "r2": (1,)}
    records = clips(shown, is_detection=True)
    problems = Problems()
    splits = split(records, ["car", "bus"], problems=problems)
    found = splits_of_groups(records, splits)
    assert found["r1"] | found["r2"] == {"train", "test"}
    assert [(problem.code, problem.item) for problem in problems.found] == [("class_missing_in_split", "bus")]
    assert "val has no item of class 'bus'" in problems.found[0].message


def test_images_that_show_nothing_are_spread_too() -> None:
    records = [record(f"c{number}", f"c{number}", (0,), is_detection=True) for number in range(20)]
    records += [record(f"e{number}", f"e{number}", (), is_detection=True) for number in range(20)]
    splits = split(records, ["car"])
    empty = splits[20:]
    assert {name: empty.count(name) for name in ("train", "val", "test")} == {"train": 13, "val": 3, "test": 4}


def test_classification_groups_that_show_several_classes_may_be_impossible() -> None:
    # Each scene shows one class, but a scene is a group of two classes: four scenes, three of which show each class.
    records = []
    for scene, class_ids in {"s0": (1, 2, 3), "s1": (0, 2, 3), "s2": (0, 1, 3), "s3": (0, 1, 2)}.items():
        records += [record(f"{scene}-{class_id}", scene, (class_id,)) for class_id in class_ids]
    with pytest.raises(SplitError, match=r"the split lacks class '\w' in \w+.*its groups show other classes too"):
        split(records, list("abcd"))


def test_published_split_is_kept_and_missing_ones_go_to_train() -> None:
    given: list[Split | None] = ["train", "val", "test", "train", None]
    records = [record(f"k{n}", f"g{n}", (n % 2,), name) for n, name in enumerate(given)]
    problems = Problems()
    assert split(records, ["a", "b"], mode="published", problems=problems) == ["train", "val", "test", "train", "train"]
    assert problems.counts() == {"class_missing_in_split": 2, "item_without_published_split": 1}


@pytest.mark.parametrize("absent", ["val", "test"])
def test_a_published_split_that_is_absent_is_taken_from_groups_of_train(absent: Split) -> None:
    other: Split = "test" if absent == "val" else "val"
    records = [
        record(f"{group}-{frame}", f"g{group}", (group % 2,), "train") for group in range(10) for frame in range(3)
    ]
    records += [record(f"o{number}", f"o{number}", (number % 2,), other) for number in range(4)]
    splits = split(records, ["a", "b"], mode="published")
    assert splits[30:] == [other] * 4
    found = splits_of_groups(records[:30], splits[:30])
    assert all(len(names) == 1 for names in found.values())
    assert {name for names in found.values() for name in names} == {"train", absent}
    assert 3 <= splits.count(absent) <= 9
    assert {item.class_ids for item, name in zip(records, splits, strict=True) if name == absent} == {(0,), (1,)}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        pytest.param(
            [record("a", "a", (0,)), record("b", "b", (1,))],
            "must give a train split, it gave none; use data.split_mode = group",
            id="no split at all",
        ),
        pytest.param(
            [record("a", "a", (0,), "test"), record("b", "b", (1,), "val")],
            "must give a train split, it gave test, val",
            id="no train",
        ),
        pytest.param(
            [record("a", "a", (0,), "train"), record("b", "b", (1,), "train")],
            r"gave no val and no test; its train has 2 groups \(a, b\), and 3 are needed",
            id="too few groups in train",
        ),
        pytest.param(
            [record("a", "a", (0,), "train"), record("b", "b", (1,), "val"), record("c", "c", (1,), "test")],
            r"the split lacks class 'y' in train",
            id="a class that cannot be learnt",
        ),
    ],
)
def test_published_splits_that_cannot_be_used_are_refused(records: list[Record], message: str) -> None:
    with pytest.raises(SplitError, match=message):
        split(records, ["x", "y"], mode="published")


def fold_splits(records: Sequence[Record], classes: Sequence[str], folds: int, fold: int, seed: int) -> list[Split]:
    return assign_splits(
        records,
        {},
        task="classification",
        classes=classes,
        splitting=Splitting("group", 0.15, 0.2, seed, folds, fold),
        problems=Problems(),
    )


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), min_size=10, max_size=40),
    folds=st.integers(3, 5),
    seed=st.integers(0, 3),
)
def test_over_all_folds_each_item_is_tested_once_and_groups_stay_whole(
    sizes: list[tuple[int, int]], folds: int, seed: int
) -> None:
    sizes = [*sizes, *((number % 2, 2) for number in range(2 * folds))]  # each class has enough groups
    records = [
        record(f"{group}-{frame}", f"g{group}", (class_id,))
        for group, (class_id, size) in enumerate(sizes)
        for frame in range(size)
    ]
    by_fold = [fold_splits(records, ["a", "b"], folds, fold, seed) for fold in range(folds)]
    assert all(splits.count("test") > 0 and splits.count("val") > 0 for splits in by_fold)
    for position in range(len(records)):
        stands = [splits[position] for splits in by_fold]
        assert stands.count("test") == stands.count("val") == 1
    for splits in by_fold:
        assert all(len(found) == 1 for found in splits_of_groups(records, splits).values())
        seen = {(item.class_ids[0], name) for item, name in zip(records, splits, strict=True)}
        assert len(seen) == 6
    assert {by_fold[0][n] for n in range(len(records)) if by_fold[1][n] == "test"} == {"val"}


def test_folds_share_classes_as_equally_as_shares_do() -> None:
    records = clips({f"{name}{clip}": (class_id,) for class_id, name in enumerate("abc") for clip in range(10)})
    splits = fold_splits(records, ["a", "b", "c"], 5, 2, 0)
    for class_id in range(3):
        found = [name for item, name in zip(records, splits, strict=True) if item.class_ids == (class_id,)]
        assert (found.count("train"), found.count("val"), found.count("test")) == (18, 6, 6)


def test_too_few_groups_for_the_folds_are_named() -> None:
    records = clips({**{f"a{n}": (0,) for n in range(6)}, **{f"b{n}": (1,) for n in range(3)}})
    with pytest.raises(SplitError, match=r"data.folds = 5 needs 5 groups.*class 'b' has 3 groups"):
        fold_splits(records, ["a", "b"], 5, 0, 0)


@settings(max_examples=40, deadline=None)
@given(
    before=st.integers(6, 20),
    added=st.integers(0, 20),
    seeds=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_what_was_there_keeps_its_split_whatever_is_added(before: int, added: int, seeds: tuple[int, int]) -> None:
    def records_of(count: int) -> list[Record]:
        return clips({f"g{number}": (number % 2,) for number in range(count)})

    old = records_of(before)
    first = split(old, ["a", "b"], seed=seeds[0])
    kept = {item.group: name for item, name in zip(old, first, strict=True)}
    new = records_of(before + added)
    second = split(new, ["a", "b"], seed=seeds[1], kept=kept)
    after = {item.group: name for item, name in zip(new, second, strict=True)}
    assert {group: after[group] for group in kept} == kept


def test_new_groups_go_where_shares_lack_them() -> None:
    records = clips({f"g{number}": (number % 2,) for number in range(60)})
    kept: dict[str, Split] = {
        f"g{number}": ("train", "train", "val", "val", "test", "test")[number % 6] for number in range(6)
    }
    kept |= {f"g{number}": "train" for number in range(6, 40)}
    splits = split(records, ["a", "b"], kept=kept)
    assert (splits.count("val") // 3, splits.count("test") // 3) == (9, 12)


def test_groups_of_two_splits_that_now_belong_together_go_to_train() -> None:
    records = clips({f"g{number}": (0,) for number in range(5)})
    previous = PreviousSplits(
        of_image={b"g0-0": "train", b"g1-0": "test", b"g2-0": "test"}, of_group={"g2": "test", "g3": "val"}
    )
    problems = Problems()
    kept = kept_splits(records, {"g0": "g0", "g1": "g0"}, previous, problems)
    assert kept == {"g0": "train", "g2": "test", "g3": "val"}
    assert problems.counts() == {"split_changed": 1}
