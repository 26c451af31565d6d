"""From an ingested table to a dataset version whose splits share nothing."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.cli.dataset.splits import splits_command
from visionyard.data.artifacts import read_manifest, read_problems, write_manifest
from visionyard.data.dataset import Dataset
from visionyard.data.extract_frames import extract_frames
from visionyard.data.ingest import ingest
from visionyard.data.prepare import prepare_dataset
from visionyard.data.previous import read_previous
from visionyard.data.split import Splitting
from visionyard.data.tables import TableDataset, TableReport, ingest_table, prepare_table
from visionyard.errors import ArtifactError, ConfigError, SplitError

DRAWN = Splitting("group", 0.2, 0.2, 0)
Row = Sequence[object]


def table(count: int = 120, seed: int = 0) -> list[Row]:
    """Return rows of x, y, colour, who, kind; the kind follows loosely from x."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        kind = "abc"[number % 3]
        x, y = rng.normal(number % 3, 2.0), rng.normal()
        rows.append((f"{x:.3f}", f"{y:.3f}", rng.choice(["red", "blue"]), f"p{number % 30:02d}", kind))
    return rows


def prepare(
    tmp_path: Path, rows: Sequence[Row], *, schema: str = "", target: str = "kind", splitting: Splitting = DRAWN
) -> TableReport:
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    lines = [("x", "y", "colour", "who", "kind"), *rows]
    (folder / "t.csv").write_text("\n".join(",".join(map(str, row)) for row in lines) + "\n")
    (folder / "schema.yaml").write_text(schema)
    ingest_table(folder, tmp_path / "sources", target_column=target)
    return prepare_table(tmp_path / "sources", tmp_path / "dataset", splitting)


def split_rows(tmp_path: Path) -> list[dict[str, Any]]:
    dataset = TableDataset(tmp_path / "dataset")
    return [row for split in ("train", "val", "test") for row in dataset.table(split).to_pylist()]  # type: ignore[arg-type]


def noted(tmp_path: Path) -> dict[str, str]:
    return {problem.code: problem.item for problem in read_problems(tmp_path / "dataset")}


IGNORE_WHO = "ignore: [who]"


def test_every_row_is_in_one_split_and_classes_in_all(tmp_path: Path) -> None:
    report = prepare(tmp_path, table(), schema=IGNORE_WHO)
    assert (report.item_counts, report.is_leaky, report.table_task) == (
        {"train": 72, "val": 24, "test": 24},
        False,
        "classification",
    )
    rows = split_rows(tmp_path)
    assert Counter((row["_split"], row["kind"]) for row in rows) == {
        (split, kind): count // 3 for split, count in report.item_counts.items() for kind in "abc"
    }
    assert sorted((f"{row['x']:.3f}", f"{row['y']:.3f}") for row in rows) == sorted((row[0], row[1]) for row in table())
    info = read_manifest(tmp_path / "dataset", "dataset", name="dataset.json")
    assert (info["task"], info["target"], info["classes"]) == ("table", "kind", ["a", "b", "c"])
    assert info["class_counts"]["val"] == {kind: {"items": 8, "boxes": 0} for kind in "abc"}
    assert info["leak"] == {"group_overlap": 0, "identical_rows": 0, "is_leaky": False, "groups": []}


def test_same_rows_same_digest_in_whatever_order(tmp_path: Path) -> None:
    rows = table()
    first = prepare(tmp_path, rows, schema=IGNORE_WHO)
    splits = {(row["x"], row["y"]): row["_split"] for row in split_rows(tmp_path)}
    random.Random(1).shuffle(rows)
    again = prepare(tmp_path, rows, schema=IGNORE_WHO)
    assert again.digest == first.digest
    assert {(row["x"], row["y"]): row["_split"] for row in split_rows(tmp_path)} == splits
    assert prepare(tmp_path, rows[1:], schema=IGNORE_WHO).digest != first.digest
    other_seed = prepare(tmp_path, rows, schema=IGNORE_WHO, splitting=Splitting("group", 0.2, 0.2, 1))
    assert other_seed.digest != first.digest


def test_groups_and_like_rows_are_never_torn(tmp_path: Path) -> None:
    rows = table(60)
    # p00 and p01 share a row but for the target: the two groups have to stand together.
    rows += [("9", "9", "red", "p00", "a"), ("9", "9", "red", "p01", "b")]
    report = prepare(tmp_path, rows, schema="group: who")
    found = split_rows(tmp_path)
    splits = defaultdict(set)
    for row in found:
        splits[row["who"]].add(row["_split"])
        assert row["_group"] == row["who"]
    assert {len(each) for each in splits.values()} == {1}
    assert splits["p00"] == splits["p01"]
    assert sum(report.group_counts.values()) == 30
    assert noted(tmp_path) == {"conflicting_labels": ""}


def test_identical_rows_stay_together_and_are_told(tmp_path: Path) -> None:
    prepare(tmp_path, table(40) * 3, schema=IGNORE_WHO)
    splits = defaultdict(set)
    for row in split_rows(tmp_path):
        splits[row["x"], row["y"]].add(row["_split"])
    assert (len(splits), {len(each) for each in splits.values()}) == (40, {1})
    (problem,) = read_problems(tmp_path / "dataset")
    assert problem.message.startswith("80 rows are the same as another one")


def test_a_regression_is_stratified_by_its_target(tmp_path: Path) -> None:
    report = prepare(tmp_path, table(300), schema=IGNORE_WHO, target="x")
    figures = read_manifest(tmp_path / "dataset", "dataset", name="dataset.json")["target_figures"]
    assert (report.table_task, report.classes) == ("regression", [])
    spread = figures["train"]["standard_deviation"]
    for split in ("val", "test"):
        assert abs(figures[split]["mean"] - figures["train"]["mean"]) < 0.15 * spread


@pytest.mark.parametrize(
    ("told", "is_noted"),
    [
        pytest.param(lambda kind, number: f"after-{kind}", True, id="a category a class"),
        pytest.param(lambda kind, number: "abc".index(kind) * 10 + number % 7, True, id="numbers a class"),
        pytest.param(lambda kind, number: "ab"[number % 2], False, id="chance"),
        pytest.param(lambda kind, number: number * 7 % 120, False, id="a number a row"),
    ],
)
def test_columns_that_tell_the_target(tmp_path: Path, told: Callable[[str, int], object], is_noted: bool) -> None:
    rows = [(row[0], row[1], told(str(row[4]), number), row[3], row[4]) for number, row in enumerate(table())]
    prepare(tmp_path, rows, schema=IGNORE_WHO)
    assert (noted(tmp_path).get("column_tells_target") == "colour") == is_noted


def test_a_column_that_tells_a_number(tmp_path: Path) -> None:
    rows = [(number / 7, row[1], row[2], row[3], number * 2.5 + 1) for number, row in enumerate(table(2000))]
    prepare(tmp_path, rows, schema=IGNORE_WHO)
    assert noted(tmp_path)["column_tells_target"] == "x"


def published(rows: Sequence[Row], splits: Sequence[str]) -> list[Row]:
    return [(*row[:3], splits[number % len(splits)], row[4]) for number, row in enumerate(rows)]


PUBLISHED = Splitting("published", 0.2, 0.2, 0)


def test_a_published_split_is_kept_leak_or_no_leak(tmp_path: Path) -> None:
    rows = published(table(), ["train", "train", "Validation", "test", "NA"])
    report = prepare(tmp_path, rows, schema="split: who", splitting=PUBLISHED)
    assert report.item_counts == {"train": 72, "val": 24, "test": 24}
    assert set(noted(tmp_path)) == {"item_without_published_split"}
    leaky = published([*table()[:40]] * 3, ["train", "val", "test"])
    report = prepare(tmp_path, leaky, schema="split: who", splitting=PUBLISHED)
    assert report.is_leaky
    assert TableDataset(tmp_path / "dataset").is_leaky
    assert "leak_across_splits" in noted(tmp_path)


def test_class_numbers_and_infinite_features(tmp_path: Path) -> None:
    numbered = enumerate(table())
    rows = [("1e999" if number % 9 == 0 else row[0], *row[1:4], f"{number % 3}.0") for number, row in numbered]
    report = prepare(tmp_path, rows, schema=IGNORE_WHO)
    assert (report.classes, sum(report.item_counts.values())) == (["0", "1", "2"], 120)


@pytest.mark.parametrize(
    ("rows", "schema", "splitting", "match"),
    [
        pytest.param(table(2), IGNORE_WHO, DRAWN, "3 groups of rows at least, found 2", id="two rows"),
        pytest.param(
            [*table(60), ("1", "2", "red", "p", "rare")], IGNORE_WHO, DRAWN, "'rare' has 1; add rows", id="rare class"
        ),
        pytest.param(
            [(*row[:4], "a") for row in table()],
            IGNORE_WHO,
            DRAWN,
            "has one class, 'a'; there is nothing",
            id="one class",
        ),
        pytest.param(
            table(), IGNORE_WHO, PUBLISHED, "no row is of train, val, test; name a split column", id="no split"
        ),
        pytest.param([(*row[:3], "p", row[4]) for row in table()], "group: who", DRAWN, "found 1", id="one group"),
    ],
)
def test_what_cannot_be_divided(
    tmp_path: Path, rows: Sequence[Row], schema: str, splitting: Splitting, match: str
) -> None:
    with pytest.raises(SplitError, match=match):
        prepare(tmp_path, rows, schema=schema, splitting=splitting)
    assert not (tmp_path / "dataset").exists()


def test_each_row_is_tested_once_over_all_folds(tmp_path: Path) -> None:
    tested: Counter[tuple[float, float]] = Counter()
    for fold in range(4):
        report = prepare(tmp_path, table(), schema=IGNORE_WHO, splitting=Splitting("group", 0.2, 0.2, 0, 4, fold))
        assert report.item_counts == {"train": 60, "val": 30, "test": 30}
        tested.update((row["x"], row["y"]) for row in split_rows(tmp_path) if row["_split"] == "test")
    assert (len(tested), set(tested.values())) == (120, {1})


def test_the_stages_take_a_table(tmp_path: Path) -> None:
    prepare(tmp_path, table(), schema=IGNORE_WHO)
    ingest(str(tmp_path / "in" / "t.csv"), tmp_path / "sources", kind="table", target_column="kind")
    extract_frames(tmp_path / "sources", tmp_path / "frames", rate_hz=2.0)
    report = prepare_dataset(tmp_path / "sources", tmp_path / "frames", tmp_path / "dataset", split_seed=3)
    assert (report.task, sum(report.item_counts.values()), report.metadata()["classes"]) == (
        "table",
        120,
        ["a", "b", "c"],
    )
    with pytest.raises(ArtifactError, match=r"made for table, expected images, one of .*TableDataset"):
        Dataset(tmp_path / "dataset")


def test_settings_that_tables_do_not_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        prepare_table(tmp_path, tmp_path / "dataset", DRAWN, classes=["a"], previous="s3://b/v1")
    assert [problem.partition(" =")[0] for problem in error.value.problems] == ["data.classes", "data.previous"]


def test_a_table_is_no_version_whose_splits_images_keep(tmp_path: Path) -> None:
    prepare(tmp_path, table())
    for call in (read_previous, lambda folder: splits_command(folder, target=tmp_path / "splits.csv")):
        with pytest.raises((ArtifactError, ConfigError), match=f"{tmp_path}.*: a table"):
            call(str(tmp_path / "dataset"))
    assert not (tmp_path / "splits.csv").exists()


def test_reading_back(tmp_path: Path) -> None:
    report = prepare(tmp_path, table(), schema=IGNORE_WHO)
    dataset = TableDataset(tmp_path / "dataset")
    assert (dataset.digest, dataset.classes, dataset.count("val")) == (report.digest, ["a", "b", "c"], 24)
    assert [column.name for column in dataset.schema.features] == ["x", "y", "colour"]
    assert sum(batch.num_rows for batch in dataset.batches("train", batch_rows=10)) == 72
    assert max(batch.num_rows for batch in dataset.batches("train", batch_rows=10)) == 10
    assert dataset.table("test").column_names == ["x", "y", "colour", "who", "kind", "_split", "_group"]


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_manifest(tmp_path / "images", "sources", {"kind": "images_voc"})
    with pytest.raises(ArtifactError, match=r"expected a table with table\.parquet, got kind 'images_voc'"):
        prepare_table(tmp_path / "images", tmp_path / "dataset", DRAWN)
    write_manifest(tmp_path / "images", "dataset", {"task": "detection"}, name="dataset.json")
    with pytest.raises(ArtifactError, match="expected a table, its task is detection"):
        TableDataset(tmp_path / "images")
    prepare(tmp_path, table(), schema=IGNORE_WHO)
    (tmp_path / "dataset" / "table.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"table\.parquet: the table is missing"):
        TableDataset(tmp_path / "dataset")


def test_penguins(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shared_data("palmerpenguins")
    ingest_table(folder / "penguins.csv", tmp_path / "sources", target_column="species")
    report = prepare_table(tmp_path / "sources", tmp_path / "dataset", Splitting("group", 0.15, 0.2, 0))
    assert (sum(report.item_counts.values()), report.is_leaky, report.problem_count) == (344, False, 0)
    assert Counter(row["species"] for row in split_rows(tmp_path)) == {"Adelie": 152, "Gentoo": 124, "Chinstrap": 68}
    # 20 % of each species, rounded either way.
    test = Counter(row["species"] for row in split_rows(tmp_path) if row["_split"] == "test")
    assert test == {"Adelie": 30, "Gentoo": 25, "Chinstrap": 14}
