"""The leak certificate, held against counting by hand."""

from itertools import combinations

import numpy as np
import pytest

from visionyard.data import audit
from visionyard.data.audit import certify, group_table
from visionyard.data.fingerprints import MAX_DISTANCE
from visionyard.data.items import SPLITS, Problems, Split
from visionyard.data.records import Record


def record(key: str, group: str, content: str, fingerprint: int | None) -> Record:
    return Record(
        key=key,
        source=f"{group}.mp4",
        group=group,
        timestamp_s=0.5,
        width=10,
        height=10,
        sha256=content.encode(),
        published_split=None,
        artifact=0,
        shard="",
        offset=0,
        size=0,
        extension="jpg",
        class_ids=(0,),
        xyxy=None,
        fingerprint=fingerprint,
    )


def test_a_clean_split_has_a_clean_certificate() -> None:
    records = [record("a", "g1", "1", 0), record("b", "g1", "2", 1), record("c", "g2", "3", 2**64 - 1)]
    problems = Problems()
    certificate = certify(records, ["train", "train", "test"], problems)
    assert certificate.to_json() == {
        "group_overlap": 0,
        "identical_images": 0,
        "near_duplicate_pairs": 0,
        "is_near_duplicate_search_complete": True,
        "is_leaky": False,
        "examples": [],
    }
    assert problems.found == []


def test_a_group_in_two_splits_leaks() -> None:
    records = [record("a", "g", "1", None), record("b", "g", "2", None), record("c", "h", "3", None)]
    problems = Problems()
    certificate = certify(records, ["train", "val", "test"], problems)
    assert (certificate.group_overlap, certificate.identical_images, certificate.is_leaky) == (1, 0, True)
    example = certificate.examples[0]
    assert example["kind"] == "group"
    assert (example["first"]["key"], example["second"]["key"]) == ("a", "b")
    assert example["first"]["source"] == "g.mp4"
    assert problems.counts() == {"leak_across_splits": 1}
    assert "1 groups and 0 pairs" in problems.found[0].message


def test_identical_images_leak_and_are_no_near_duplicates() -> None:
    contents = ["same", "same", "same", "same", "other"]
    splits: list[Split] = ["train", "train", "val", "test", "test"]
    records = [record(f"k{n}", f"g{n}", content, 5) for n, content in enumerate(contents)]
    certificate = certify(records, splits, Problems())
    assert certificate.identical_images == 2 * 1 + 2 * 1 + 1 * 1
    assert certificate.near_duplicate_pairs == 3  # `other` with the three in train and val
    assert certificate.is_leaky
    kinds = [example["kind"] for example in certificate.examples]
    assert kinds == ["identical", "near_duplicate"]
    assert "k4" in {certificate.examples[1][side]["key"] for side in ("first", "second")}


def test_alike_pictures_warn_and_do_not_leak() -> None:
    records = [record("a", "g1", "1", 0b0), record("b", "g2", "2", 0b1111), record("c", "g3", "3", 0b11111 << 8)]
    problems = Problems()
    certificate = certify(records, ["train", "test", "val"], problems)
    assert (certificate.near_duplicate_pairs, certificate.is_leaky) == (1, False)
    assert certificate.examples[0]["distance"] == 4
    assert problems.counts() == {"near_duplicates_across_splits": 1}


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_that_comparing_all_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prints = [int(value) << int(shift) for value, shift in zip(rng.integers(0, 40, 120), rng.integers(0, 50, 120))]
    records = [record(f"k{n}", f"g{n}", f"{rng.integers(0, 100)}", value) for n, value in enumerate(prints)]
    # The same content has the same fingerprint.
    by_content = {item.sha256: item.fingerprint for item in records}
    records = [record(item.key, item.group, item.sha256.decode(), by_content[item.sha256]) for item in records]
    splits = [SPLITS[int(number)] for number in rng.integers(0, 3, 120)]
    near = identical = 0
    for first, second in combinations(range(120), 2):
        one, other = records[first], records[second]
        if splits[first] == splits[second]:
            continue
        if one.sha256 == other.sha256:
            identical += 1
        elif ((one.fingerprint or 0) ^ (other.fingerprint or 0)).bit_count() <= MAX_DISTANCE:
            near += 1
    certificate = certify(records, splits, Problems())
    assert (certificate.identical_images, certificate.near_duplicate_pairs) == (identical, near)
    assert near > 20
    assert len(certificate.examples) == audit.MAX_EXAMPLES
    for example in certificate.examples:
        assert example["first"]["split"] != example["second"]["split"]


def test_an_unfinished_search_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: np.ndarray) -> list[np.ndarray | None]:
        return [np.array([[0, 1, 1]]), None]

    monkeypatch.setattr(audit, "near_pairs", stopped)
    problems = Problems()
    certificate = certify([record("a", "g", "1", 0), record("b", "h", "2", 1)], ["train", "test"], problems)
    assert not certificate.is_near_duplicate_search_complete
    assert problems.found[0].message.startswith("at least 1 pairs")


def test_group_table_is_sorted_by_split_and_group() -> None:
    records = [record(f"k{n}", group, f"{n}", None) for n, group in enumerate(["b", "a", "b", "c"])]
    assert group_table(records, ["test", "train", "test", "train"]) == [
        {"group": "a", "split": "train", "count": 1},
        {"group": "c", "split": "train", "count": 1},
        {"group": "b", "split": "test", "count": 2},
    ]
