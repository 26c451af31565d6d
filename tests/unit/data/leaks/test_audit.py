"""The leak certificate, held against counting by hand."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from visionyard.data.items import SPLITS, Problems, Split
from visionyard.data.leaks.audit import (
    MAX_EXAMPLES,
    AuditedImage,
    LeakCertificate,
    certify,
    group_table,
    leak_summary,
)
from visionyard.data.leaks.confirmation import MIN_SCORE
from visionyard.data.leaks.near_duplicates import NearDuplicates


def image(key: str, group: str, content: str, split: Split) -> AuditedImage:
    return AuditedImage(key, f"{group}.mp4", group, 0.5, content.encode(), split)


def near(*pairs: tuple[int, int]) -> NearDuplicates:
    return NearDuplicates(np.array(pairs, dtype=np.int64).reshape(-1, 2), np.full(len(pairs), 0.75), 10)


def audit(
    images: list[AuditedImage], duplicates: NearDuplicates | None = None, budget: float = 0.01
) -> tuple[LeakCertificate, Problems]:
    problems = Problems()
    return certify(images, duplicates or near(), problems, leak_budget=budget), problems


def test_a_clean_split_has_a_clean_certificate() -> None:
    images = [image("a", "g1", "1", "train"), image("b", "g1", "2", "train"), image("c", "g2", "3", "test")]
    certificate, problems = audit(images, near((0, 1)))
    values = certificate.to_json()
    assert values.pop("method")["min_score"] == MIN_SCORE
    assert values == {
        "group_overlap": 0,
        "identical_images": 0,
        "near_duplicate_pairs": 0,
        "is_near_duplicate_search_complete": True,
        "near_duplicate_items": 0,
        "held_out_items": 1,
        "leak_budget": 0.01,
        "is_over_budget": False,
        "is_leaky": False,
        "candidate_pairs": 10,
        "cluster_count": 1,
        "clusters": [{"count": 2, "keys": ["a", "b"], "splits": {"train": 2}}],
        "examples": [],
    }
    assert problems.found == []
    assert leak_summary(values) == ""


def test_a_group_in_two_splits_leaks() -> None:
    images = [image("a", "g", "1", "train"), image("b", "g", "2", "val"), image("c", "h", "3", "test")]
    certificate, problems = audit(images)
    assert (certificate.group_overlap, certificate.identical_images, certificate.is_leaky) == (1, 0, True)
    example = certificate.examples[0]
    assert (example["kind"], example["score"]) == ("group", None)
    assert example["first"] == {"key": "a", "split": "train", "group": "g", "source": "g.mp4", "timestamp_s": 0.5}
    assert problems.counts() == {"leak_across_splits": 1}
    assert "1 groups stand in two splits" in problems.found[0].message


def test_identical_images_leak_and_are_no_near_duplicates() -> None:
    rows: list[tuple[str, Split]] = [
        ("same", "train"),
        ("same", "train"),
        ("same", "val"),
        ("same", "test"),
        ("x", "test"),
    ]
    images = [image(f"k{n}", f"g{n}", content, split) for n, (content, split) in enumerate(rows)]
    certificate, _ = audit(images, near(*combinations(range(5), 2)))
    assert certificate.identical_images == 2 * 1 + 2 * 1 + 1 * 1
    assert certificate.near_duplicate_pairs == 3  # the other image with the three in train and val
    assert certificate.is_leaky
    assert [example["kind"] for example in certificate.examples] == ["identical"] + ["near_duplicate"] * 3


@pytest.mark.parametrize(
    ("budget", "is_leaky"), [(0.0, True), (0.49, True), (0.5, False), (1.0, False)], ids=["none", "less", "just", "all"]
)
def test_the_budget_is_a_share_of_the_images_held_out(budget: float, is_leaky: bool) -> None:
    splits: list[Split] = ["train", "train", "val", "test", "test", "test"]
    images = [image(f"k{n}", f"g{n}", f"{n}", split) for n, split in enumerate(splits)]
    # Two images held out, val and one of test, show what train does; three pairs say so.
    certificate, problems = audit(images, near((0, 2), (1, 2), (0, 3)), budget)
    assert (certificate.near_duplicate_pairs, certificate.near_duplicate_items) == (3, 2)
    assert (certificate.is_over_budget, certificate.is_leaky) == (is_leaky, is_leaky)
    assert problems.counts().get("leak_across_splits", 0) == is_leaky
    assert problems.counts()["near_duplicates_across_splits"] == 1
    assert ("2 of 4 images held out" in leak_summary(certificate.to_json())) == is_leaky


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    splits = [SPLITS[int(number)] for number in rng.integers(0, 3, 60)]
    images = [image(f"k{n}", f"g{n}", f"{rng.integers(0, 50)}", split) for n, split in enumerate(splits)]
    chosen = [pair for pair in combinations(range(60), 2) if rng.random() < 0.05]
    certificate, _ = audit(images, near(*chosen))
    crossing = [(a, b) for a, b in combinations(images, 2) if a.split != b.split]
    assert certificate.identical_images == sum(a.sha256 == b.sha256 for a, b in crossing)
    expected = [
        (images[a], images[b])
        for a, b in chosen
        if images[a].split != images[b].split and images[a].sha256 != images[b].sha256
    ]
    assert certificate.near_duplicate_pairs == len(expected)
    touched = {side.key for pair in expected for side in pair if side.split != "train"}
    assert certificate.near_duplicate_items == len(touched)
    assert len(certificate.examples) == MAX_EXAMPLES
    for example in certificate.examples:
        assert example["first"]["split"] != example["second"]["split"]


def test_each_cluster_is_shown_before_a_second_pair_of_one() -> None:
    images = [image(f"k{n}", f"g{n}", f"{n}", "train" if n % 2 else "test") for n in range(8)]
    pairs = near((0, 1), (0, 3), (2, 3), (4, 5), (6, 7))
    scores = np.array([0.99, 0.98, 0.97, 0.6, 0.7])
    certificate, _ = audit(images, NearDuplicates(pairs.pairs, scores, 5))
    assert [example["score"] for example in certificate.examples] == [0.99, 0.7, 0.6, 0.98, 0.97]


def test_an_unfinished_search_is_told() -> None:
    images = [image(f"k{n}", f"g{n}", f"{n}", "train" if n else "test") for n in range(20)]
    found = replace(near(*((0, other) for other in range(1, 20))), is_complete=False)
    certificate, problems = audit(images, found)
    assert not certificate.is_near_duplicate_search_complete
    assert any(problem.message.startswith("at least 19 pairs") for problem in problems.found)


def test_group_table_is_sorted_by_split_and_group() -> None:
    rows: list[tuple[str, Split]] = [("b", "test"), ("a", "train"), ("b", "test"), ("c", "train")]
    images = [image(f"k{n}", group, f"{n}", split) for n, (group, split) in enumerate(rows)]
    assert group_table(images) == [
        {"group": "a", "split": "train", "count": 1},
        {"group": "c", "split": "train", "count": 1},
        {"group": "b", "split": "test", "count": 2},
    ]


@pytest.mark.parametrize(
    ("leak", "expected"),
    [
        pytest.param({"group_overlap": 3, "identical_images": 0}, "3 groups stand in two splits", id="version of old"),
        pytest.param({"group_overlap": 0, "identical_images": 0}, "", id="clean"),
    ],
)
def test_summary_reads_old_certificates(leak: dict[str, int], expected: str) -> None:
    assert leak_summary(leak) == expected
