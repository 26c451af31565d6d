"""The page of suspects as a person sees it in a headless browser."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_dataset
from visionyard.data.dataset import Dataset
from visionyard.data.quality.page import write_suspects_page
from visionyard.data.quality.survey import find_suspects

HOSTILE = "<img src=x onerror=alert(1)>"


def _version(folder: Path, *, is_black: bool) -> Dataset:
    random = np.random.default_rng(0)
    rows = []
    for number in range(8):
        image = random.integers(0, 255, (64, 96, 3)).astype(np.uint8)
        xyxy = [[10.0, 10.0, 40.0, 40.0]]
        rows.append({"split": "train" if number < 4 else "test", "image": image, "class_ids": [0], "xyxy": xyxy})
    if is_black:
        rows[2]["image"] = np.zeros((64, 96, 3), np.uint8)
        rows[5]["image"] = rows[1]["image"]
        rows[5]["class_ids"] = [1]
    return Dataset(write_dataset(folder, task="detection", classes=[HOSTILE, "cat"], rows=rows))


@pytest.mark.parametrize("is_black", [True, False])
def test_a_person_sees_the_suspects(is_black: bool, tmp_path: Path, browser: Any) -> None:
    dataset = _version(tmp_path / "dataset", is_black=is_black)
    path = tmp_path / "page.html"
    write_suspects_page(path, dataset, find_suspects(dataset, image_size_px=96))
    assert HOSTILE not in path.read_text(encoding="utf-8")
    browser.open(path.as_uri())
    shown = browser.js("document.body.innerText")
    if is_black:
        assert "Black image (1)" in shown and "Same image other label (1)" in shown and HOSTILE in shown
        # One picture of the black image, two of the pair.
        assert browser.js("document.querySelectorAll('.card img').length") == 3
        assert browser.js("[...document.querySelectorAll('.card img')].every((one) => one.naturalWidth === 320)")
    else:
        assert browser.js("document.querySelectorAll('.card').length") == 0
    assert "Held against train" in shown
    browser.open(path.as_uri(), width=600)
    assert browser.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.complaints() == []
    assert set(browser.requests()) <= {"file", "data"}


def test_the_same_version_gives_the_same_page(tmp_path: Path) -> None:
    dataset = _version(tmp_path / "dataset", is_black=True)
    for name in ("a.html", "b.html"):
        write_suspects_page(tmp_path / name, dataset, find_suspects(dataset, image_size_px=96))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
