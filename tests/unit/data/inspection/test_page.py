"""The page: what it carries, and what a person sees in a headless browser."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.labelled_sets import make_set
from visionyard.data.inspection import inspect_images
from visionyard.data.inspection.examples import choose_examples
from visionyard.data.inspection.page import write_inspection_page
from visionyard.data.items import Box
from visionyard.data.labelled import LabelledSet
from visionyard.geometry import Mask
from visionyard.pages.marks import class_colour

HOSTILE = "<img src=x onerror=alert(1)>"


def _content(path: Path) -> dict[str, Any]:
    found = re.search(r'id="content">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def _write(labelled: LabelledSet, path: Path) -> Path:
    write_inspection_page(path, labelled, inspect_images(labelled))
    return path


def test_examples_are_spread_and_every_class_is_shown():
    rows = [{"class_name": "often"} for _ in range(99)] + [{"class_name": "rare"}]
    rows.insert(50, {"class_name": "rarer"})
    labelled = make_set("classification", ["often", "rare", "rarer"], rows)
    examples, extremes = choose_examples(labelled, inspect_images(labelled))
    shown = {example.item.class_name for example in examples}
    assert shown == {"often", "rare", "rarer"}
    assert 24 <= len(examples) <= 27
    assert len(extremes) >= 6


def test_masks_are_drawn_in_the_class_colour():
    box = Box("cat", (0, 0, 40, 40), Mask.from_array(np.ones((40, 40), bool)))
    rows = [{"size_hw": (40, 40), "boxes": (box,)}]
    labelled = make_set("detection", ["cat"], rows)
    ((example,), _) = choose_examples(labelled, inspect_images(labelled))
    (image,) = labelled.images()
    expected = (image.pixels()[30, 30].astype(int) + class_colour(0)) // 2
    assert np.asarray(example.picture)[30, 30].tolist() == expected.tolist()
    ids = np.full((40, 40), 255, np.uint8)
    ids[:20] = 1
    labelled = make_set("semantic_segmentation", ["sky", "sea"], [{"size_hw": (40, 40), "mask": ids}])
    ((example,), _) = choose_examples(labelled, inspect_images(labelled))
    pixels = next(labelled.images()).pixels()
    drawn = np.asarray(example.picture)
    assert drawn[30, 30].tolist() == pixels[30, 30].tolist()
    assert drawn[10, 10].tolist() == ((pixels[10, 10].astype(int) + class_colour(1)) // 2).tolist()


def test_a_loose_image_and_a_frame_of_one_key_have_pictures_of_their_own(tmp_path: Path):
    rows = [{"class_name": "one", "key": "same"}, {"class_name": "one", "key": "same"}]
    content = _content(_write(make_set("classification", ["one"], rows), tmp_path / "page.html"))
    pictures = {card["source"]: card["picture"] for card in content["examples"]}
    assert len(set(pictures.values())) == 2
    for found in content["extremes"].values():
        assert {one["source"]: one["picture"] for one in found} == pictures


def test_the_page_carries_the_numbers_and_few_megabytes(tmp_path: Path):
    rows = [{"split": "train", "size_hw": (400, 600), "class_name": HOSTILE} for _ in range(40)]
    path = _write(make_set("classification", [HOSTILE], rows), tmp_path / "page.html")
    content = _content(path)
    assert content["inspection"]["item_count"] == 40
    assert content["inspection"]["classes"][0]["name"] == HOSTILE
    assert len(content["examples"]) == 24
    assert path.stat().st_size < 6_000_000
    assert HOSTILE not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("task", ["classification", "detection", "semantic_segmentation"])
def test_a_person_sees_every_section(task: str, tmp_path: Path, browser: Any):
    label = {
        "classification": {"class_name": HOSTILE},
        "detection": {"boxes": (Box(HOSTILE, (1, 1, 9, 9)),)},
        "semantic_segmentation": {"mask": np.zeros((24, 32), np.uint8)},
    }[task]
    path = _write(make_set(task, [HOSTILE], [{"split": "train", **label}] * 3), tmp_path / "page.html")
    for width in (600, 1400):
        browser.open(path.as_uri(), width=width)
        assert browser.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    headings = browser.js("[...document.querySelectorAll('h2')].map((one) => one.textContent)")
    boxes = ["Boxes"] if task == "detection" else []
    assert headings == ["Classes", *boxes, "Images", "Images with their labels", "Problems found"]
    assert browser.js("document.querySelectorAll('#examples .card').length") == 3
    assert browser.js("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert HOSTILE in browser.js("document.querySelector('#classes').textContent")
    assert browser.complaints() == []
    assert set(browser.requests()) <= {"file", "data"}
