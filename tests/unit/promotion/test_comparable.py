"""Whether a champion can answer for the test split of a new model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionyard.inference import Bundle, Predictor
from visionyard.inference.bundle import BundleManifest
from visionyard.promotion.comparable import difference, on_its_columns
from visionyard.transforms import TablePreprocessing


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ([{"name": "x", "type": "boolean"}, {"name": "code", "type": "boolean"}], ""),
        ([{"name": name, "type": "boolean"} for name in ("new", "x", "code")], ""),
        ([{"name": "x", "type": "boolean"}], "other columns than the new model: they differ in code"),
        ([{"name": "x", "type": "categorical", "values": []}, {"name": "code", "type": "boolean"}], "differ in x"),
        (None, "looks at rows, the new model at images"),
    ],
    ids=["same", "one more", "column gone", "other type", "images"],
)
def test_a_champion_of_other_columns_is_told_not_met_in_the_middle(
    columns: list[dict[str, Any]] | None, told: str, tiny_bundle: Any
) -> None:
    images = Bundle.open(tiny_bundle("classification")[0]).manifest

    def of_table(columns: list[dict[str, Any]]) -> BundleManifest:
        return images.model_copy(update={"preprocessing": TablePreprocessing.model_validate({"columns": columns})})

    champion = of_table([{"name": "x", "type": "boolean"}, {"name": "code", "type": "categorical", "values": ["a"]}])
    found = difference(champion, images if columns is None else of_table(columns))
    assert told in found
    assert bool(told) == bool(found)


def test_a_champion_of_rows_passes_over_columns_that_came_later(table_bundle: Path) -> None:
    rows = [
        {"x": 2.5, "count": 3, "colour": "red", "is_new": True},
        {"x": -2.5, "count": None, "colour": "blue", "is_new": False},
    ]
    with Predictor.from_bundle(table_bundle) as predictor:
        champion = on_its_columns(predictor)
        found = champion.predict([{"weight": 7.5, **row} for row in rows])
        for one, expected in zip(found, predictor.predict(rows), strict=True):
            np.testing.assert_array_equal(one.probabilities, expected.probabilities)
