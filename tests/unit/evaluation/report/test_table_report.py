"""The report of a table's model: rows in place of pictures."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from visionyard.evaluation import build_report
from visionyard.training.validate import validate_model


@pytest.fixture(scope="module")
def report(
    table_checkpoint: Path, table_dataset: Path, table_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the page of a table's model."""
    folder = tmp_path_factory.mktemp("table-report")
    validate_model(table_checkpoint, table_dataset, folder / "evaluation", confidence_threshold=0.25, iou_threshold=0.5)
    return build_report(
        folder / "report.html",
        evaluation=folder / "evaluation",
        dataset=table_dataset,
        training=table_checkpoint,
        bundle=table_bundle,
    )


def content(page: Path) -> Any:
    found = re.search(r'id="content">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_carries_rows_and_no_pictures(report: Path) -> None:
    values = content(report)
    assert (values["item"], values["data"]["examples"]) == ("row", [])
    shown = values["images"]["shown"]
    assert len(shown) == values["images"]["total"]
    assert values["images"]["columns"] == list(shown[0]["values"]) or set(shown[0]["values"]) == set(
        values["images"]["columns"]
    )
    assert all("picture" not in row and row["width"] is None for row in shown)
    assert shown[0]["truth_probability"] == min(row["truth_probability"] for row in shown), "the worst comes first"
    assert "image_size_px" not in values["training"]["facts"]


def test_the_page_shows_them_in_a_table(browser: Any, report: Path) -> None:
    browser.open(report.as_uri())
    total = content(report)["images"]["total"]
    assert browser.js("document.querySelectorAll('#images tbody tr').length") == min(total, 30)
    assert browser.js("document.querySelectorAll('#images img, #data img').length") == 0
    headings = browser.js("[...document.querySelectorAll('#images thead th')].map((one) => one.textContent)")
    assert headings == ["Row", "Truth", "Prediction", "Probability", "x", "count", "colour", "is_new"]
    wrong = content(report)["metrics"]["counts"]["images"] - content(report)["metrics"]["counts"]["right"]
    browser.js("document.querySelector('#images button[data-filter=wrong]').click()")
    rows = browser.js("[...document.querySelectorAll('#images tbody tr')].filter((row) => row.dataset.key).length")
    assert rows == wrong
    browser.js("document.querySelector('#images button[data-filter=all]').click()")
    browser.js("document.querySelector('#images tbody button').click()")
    browser.wait("document.getElementById('viewer').open")
    assert "is_new" in browser.js("document.getElementById('viewer').textContent")
    visible = browser.js("document.body.innerText").lower()
    assert "image" not in visible
    assert browser.complaints() == []
