"""Masks and keypoints in a browser are those of the bundle in Python."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.browser_example import EXAMPLE, Site, ask, drop, encoded, pictures
from tests.fixtures.instance_models import POINTS, import_instance_models
from visionyard.geometry import Mask
from visionyard.inference import Predictor
from visionyard.pages.marks import class_colour
from visionyard.transforms import Detections, Placement, PreprocessingSpec, decode_image
from visionyard.transforms.prototype_masks import masks_from_prototypes

# Beside the usual ones a bright one, in which the model finds two objects.
PICTURES = [*pictures(), np.full((50, 120, 3), 255, np.uint8)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return two imported bundles: one finds discs, the other two points."""
    return import_instance_models(tmp_path_factory.mktemp("models"))


def _open(browser: Any, page: Site, width: int = 1200) -> None:
    browser.open(page.url, width=width)
    browser.wait("document.getElementById('status').textContent.startsWith('detection')")


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


def test_masks_are_those_of_the_bundle(browser: Any, site: Callable[[Path], Site], bundles: dict[str, Path]) -> None:
    _open(browser, site(bundles["discs"]))
    counts = []
    with Predictor.from_bundle(bundles["discs"], "onnx") as predictor:
        for image in PICTURES:
            data = encoded(image)
            (expected,) = predictor.predict([decode_image(data)])
            assert isinstance(expected, Detections) and expected.masks is not None
            boxes = ask(browser, data, {})["boxes"]
            counts.append(len(boxes))
            np.testing.assert_allclose([box["xyxy"] for box in boxes], expected.xyxy, atol=1e-3)
            for box, mask in zip(boxes, expected.masks, strict=True):
                found = Mask.from_json(box["mask"]["rle"])
                assert found.size_hw == mask.size_hw == image.shape[:2]
                assert mask.area > 20
                assert _overlap(found.to_array(), mask.to_array()) > 0.99, image.shape
    assert counts == [1] * (len(PICTURES) - 1) + [2]
    assert browser.complaints() == []


def test_keypoints_are_those_of_the_bundle(
    browser: Any, site: Callable[[Path], Site], bundles: dict[str, Path]
) -> None:
    _open(browser, site(bundles["points"]))
    with Predictor.from_bundle(bundles["points"], "onnx") as predictor:
        for image in PICTURES:
            data = encoded(image)
            (expected,) = predictor.predict([decode_image(data)])
            assert isinstance(expected, Detections)
            boxes = ask(browser, data, {})["boxes"]
            assert all("mask" not in box for box in boxes)
            np.testing.assert_allclose([box["keypoints"] for box in boxes], expected.keypoints, atol=1e-3)


def _colours(browser: Any, *places: tuple[float, float]) -> list[list[int]]:
    """Return the red, green and blue of places on the canvas, x and y."""
    return list(
        browser.js(
            "(() => { const canvas = document.getElementById('picture');"
            "const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
            f"return {json.dumps([[int(x), int(y)] for x, y in places])}.map(([x, y]) =>"
            " [0, 1, 2].map((c) => data[(y * canvas.width + x) * 4 + c])); })()"
        )
    )


def test_they_are_drawn(browser: Any, site: Callable[[Path], Site], bundles: dict[str, Path]) -> None:
    grey = np.full((800, 480, 3), 60, np.uint8)
    colour = np.array(class_colour(0))
    _open(browser, site(bundles["discs"]), width=390)
    drop(browser, encoded(grey))
    browser.wait("document.getElementById('status').textContent.includes('ms in this browser')")
    middle, beside = _colours(browser, (240, 300), (450, 750))
    assert (middle, beside) == (((colour + 60) // 2).tolist(), [60, 60, 60])

    _open(browser, site(bundles["points"]), width=390)
    drop(browser, encoded(grey))
    browser.wait("document.getElementById('status').textContent.includes('ms in this browser')")
    (x, y, _), (hidden_x, hidden_y, _) = [((x - 13) * 480 / 38, y * 12.5, sure) for x, y, sure in POINTS]
    point, hidden = _colours(browser, (x, y), (hidden_x + 2, hidden_y - 2))
    assert point == colour.tolist()
    assert hidden == [60, 60, 60], "the model is not sure of it"
    assert browser.complaints() == []


def _mask_cases() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, Placement]]:
    """Return prototypes, weights, boxes and placements: waves whose sums are whole numbers, noise, and odd ones."""
    rng = np.random.default_rng(4)
    cases = []
    for resize, interpolation in (("letterbox", "bilinear"), ("stretch", "bilinear")):
        spec = PreprocessingSpec(resize=resize, size_hw=(96, 128), interpolation=interpolation)  # type: ignore[arg-type]
        for width, height in ((320, 240), (33, 77), (500, 61), (1, 1), (640, 480)):
            placement = spec.apply(np.zeros((height, width, 3), np.uint8))[1]
            count = 1 if width == 33 else 8
            maps = rng.normal(0, 3, (count, 12, 16))
            smooth = np.kron(rng.integers(-4, 5, (count, 3, 4)), np.ones((4, 4)))
            for prototypes in (maps, smooth):
                corners = rng.uniform(-0.1, 1.1, (6, 2, 2)) * (width, height)
                boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
                boxes = np.clip(boxes, 0, [width, height, width, height])
                boxes[0] = (0, 0, width, height)
                weights = rng.integers(-2, 3, (6, count))
                cases.append((prototypes.astype(np.float32), weights.astype(np.float32), boxes, placement))
    prototypes, weights, boxes, placement = cases[0]
    odd = prototypes.copy()
    odd[0, 2:4, 3:6], odd[1, 6, 7], odd[2, 8, 2:9] = np.nan, np.inf, -np.inf
    empty = boxes.copy()
    empty[0], empty[1], empty[2] = np.nan, (5, 5, 5, 9), (20, 20, 10, 10)
    return [*cases, (odd, np.abs(weights), boxes, placement), (prototypes, weights, empty, placement)]


def test_the_arithmetic_of_masks_is_that_of_python(tmp_path: Path) -> None:
    """In Node: many prototypes, boxes and placements, and values that are no numbers."""
    if shutil.which("node") is None:
        pytest.skip("needs node")
    cases = _mask_cases()
    listed = []
    for number, (prototypes, weights, boxes, placement) in enumerate(cases):
        (tmp_path / f"{number}.in").write_bytes(prototypes.tobytes())
        # JSON has no word for what is not a number.
        told = [[None if np.isnan(value) else value for value in box] for box in boxes.tolist()]
        listed.append(
            {
                "dims": [1, *prototypes.shape],
                "weights": weights.tolist(),
                "boxes": told,
                "placement": {
                    "scale": placement.scale_xy,
                    "offset": placement.offset_xy,
                    "source": placement.source_wh,
                    "input": placement.input_wh,
                },
            }
        )
    (tmp_path / "cases.json").write_text(json.dumps(listed))
    (tmp_path / "run.mjs").write_text(
        f"import {{ forEachStretch, maskFromPrototypes }} from {json.dumps((EXAMPLE / 'masks.js').as_uri())};\n"
        "import fs from 'node:fs';\n"
        "const found = [];\n"
        "for (const [number, { dims, weights, boxes, placement }] of"
        " JSON.parse(fs.readFileSync('cases.json')).entries()) {\n"
        "  const bytes = new Uint8Array(fs.readFileSync(`${number}.in`));\n"
        "  const prototypes = { data: new Float32Array(bytes.buffer), dims };\n"
        "  found.push(boxes.map((box, place) => {\n"
        "    const numbers = box.map((value) => value ?? NaN);\n"
        "    const mask = maskFromPrototypes(prototypes, weights[place], numbers, placement);\n"
        "    let area = 0;\n"
        "    forEachStretch(mask, (column, top, bottom) => { area += bottom - top; });\n"
        "    return { mask, area };\n"
        "  }));\n"
        "}\n"
        "fs.writeFileSync('found.json', JSON.stringify(found));\n"
    )
    subprocess.run(["node", "run.mjs"], cwd=tmp_path, check=True, timeout=60)
    pixel_count, different = 0, 0
    for (prototypes, weights, boxes, placement), found in zip(
        cases, json.loads((tmp_path / "found.json").read_text()), strict=True
    ):
        expected = masks_from_prototypes(prototypes, weights, boxes, placement)
        is_whole = bool((prototypes == np.round(prototypes)).all())
        for one, mask in zip(found, expected, strict=True):
            if is_whole:
                assert one["mask"] == mask.to_json()
            made = Mask.from_json(one["mask"])
            assert made.area == one["area"]
            pixel_count += mask.area
            different += int((made.to_array() != mask.to_array()).sum())
    # A sum that was added up in another order may cross 0 a pixel earlier or later.
    assert pixel_count > 500_000
    assert different <= pixel_count * 1e-5
