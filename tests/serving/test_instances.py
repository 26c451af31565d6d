"""Masks and keypoints of imported models on the wire: a turned photograph that is not square, by every protocol."""

import base64
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.fixtures.instance_models import BOX, POINTS
from visionyard.client import Client, DetectedImage
from visionyard.geometry import Mask
from visionyard.inference import Predictor

# The photograph as it is stored, and upright: 96 wide and 160 high, so its letterbox is 38 px wide with 13 px beside.
STORED_WH, UPRIGHT_WH = (160, 96), (96, 160)
SCALE_XY, OFFSET_XY = (38 / 96, 64 / 160), (13, 0)
# In pixels of the photograph.
XYXY = [(value - OFFSET_XY[axis % 2]) / SCALE_XY[axis % 2] for axis, value in enumerate(BOX)]


@pytest.fixture(scope="module")
def http(instances: Any) -> Iterator[httpx.Client]:
    """Return a client of the server."""
    with httpx.Client(base_url=instances.url, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """Return a JPEG that EXIF turns by a quarter."""
    pixels = np.random.default_rng(3).integers(60, 200, (STORED_WH[1], STORED_WH[0], 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def _expected() -> np.ndarray:
    """Return the disc in pixels of the upright photograph."""
    y, x = np.mgrid[: UPRIGHT_WH[1], : UPRIGHT_WH[0]] + 0.5
    return np.hypot(x * SCALE_XY[0] + OFFSET_XY[0] - 32, y * SCALE_XY[1] + OFFSET_XY[1] - 24) < 8


def _is_disc(pixels: np.ndarray) -> None:
    expected = _expected()
    assert pixels.shape == expected.shape
    # The model's map has cells of 4 px, between which a circle is bent a little.
    assert (pixels & expected).sum() / (pixels | expected).sum() > 0.93


def test_a_mask_lies_on_the_upright_photograph(
    http: httpx.Client, instance_bundles: dict[str, Path], photograph: bytes
) -> None:
    answer = http.post("predict?model=discs", content=photograph).raise_for_status().json()

    (found,) = answer["predictions"]
    (box,) = found["boxes"]
    assert (found["width"], found["height"]) == UPRIGHT_WH
    assert set(box) == {"class", "class_id", "confidence", "xyxy", "mask"}
    assert box["xyxy"] == pytest.approx(XYXY, abs=0.01)
    assert set(box["mask"]) == {"rle"}
    assert box["mask"]["rle"]["size"] == [UPRIGHT_WH[1], UPRIGHT_WH[0]]
    _is_disc(Mask.from_json(box["mask"]["rle"]).to_array())
    upright = np.zeros((UPRIGHT_WH[1], UPRIGHT_WH[0], 3), np.uint8)
    with Predictor.from_bundle(instance_bundles["discs"]) as predictor:
        (local,) = predictor.predict([upright])
    assert local.masks[0].to_json() == box["mask"]["rle"], "as `visionyard predict` on the bundle"


def test_masks_come_as_polygons_or_not_at_all(http: httpx.Client, photograph: bytes) -> None:
    coco = pytest.importorskip("faster_coco_eval.core.mask", reason="needs faster-coco-eval")

    def ask(masks: str) -> dict[str, Any]:
        answer = http.post("predict", params={"model": "discs", "masks": masks}, content=photograph)
        return answer.raise_for_status().json()["predictions"][0]["boxes"][0]

    polygons, rle, none = ask("polygons"), ask("rle"), ask("none")
    refused = http.post("predict?model=discs&masks=png", content=photograph)

    assert "mask" not in polygons
    drawn = coco.decode(coco.merge(coco.frPyObjects(polygons["polygons"], UPRIGHT_WH[1], UPRIGHT_WH[0])))
    assert np.array_equal(drawn, Mask.from_json(rle["mask"]["rle"]).to_array())
    assert set(none) == {"class", "class_id", "confidence", "xyxy"}
    assert refused.status_code == 400
    assert "masks = 'png': expected one of rle, polygons, none" in refused.json()["error"]


def test_keypoints_lie_on_the_upright_photograph(http: httpx.Client, photograph: bytes) -> None:
    answer = http.post("predict?model=points", content=photograph).raise_for_status().json()

    (box,) = answer["predictions"][0]["boxes"]
    expected = [
        [(x - OFFSET_XY[0]) / SCALE_XY[0], (y - OFFSET_XY[1]) / SCALE_XY[1], confidence] for x, y, confidence in POINTS
    ]
    assert np.array(box["keypoints"]) == pytest.approx(np.array(expected), abs=0.01)
    assert "mask" not in box


def test_v2_carries_masks_in_its_texts(http: httpx.Client, photograph: bytes) -> None:
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(photograph).decode()]}

    answer = http.post("v2/models/discs/infer", json={"inputs": [image], "parameters": {"masks": "rle"}})

    outputs = {one["name"]: one["data"] for one in answer.raise_for_status().json()["outputs"]}
    (box,) = json.loads(outputs["predictions"][0])["boxes"]
    _is_disc(Mask.from_json(box["mask"]["rle"]).to_array())
    assert outputs["xyxy"] == pytest.approx(XYXY, abs=1e-3)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_client_gives_masks_and_keypoints(protocol: str, instances: Any, photograph: bytes) -> None:
    address = instances.url if protocol == "http" else f"grpc://{instances.grpc}"
    with Client(address) as client:
        discs = client.predict(photograph, model="discs")
        small = client.predict(photograph, model="discs", downsize_px=80)
        outlines = client.predict(photograph, model="discs", masks="polygons")
        points = client.predict(photograph, model="points")

    assert isinstance(discs, DetectedImage) and isinstance(small, DetectedImage)
    assert isinstance(outlines, DetectedImage) and isinstance(points, DetectedImage)
    assert discs.boxes[0].mask is not None and small.boxes[0].mask is not None
    _is_disc(discs.boxes[0].mask.to_array())
    _is_disc(small.boxes[0].mask.to_array())
    assert outlines.boxes[0].mask is None and outlines.boxes[0].polygons
    assert points.boxes[0].keypoints is not None and points.boxes[0].keypoints[0][2] == pytest.approx(0.9)


def test_a_mask_is_drawn(http: httpx.Client, photograph: bytes) -> None:
    answer = http.post("predict/image?model=discs", content=photograph).raise_for_status()

    drawn = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    plain = np.asarray(Image.open(io.BytesIO(photograph)).transpose(Image.Transpose.ROTATE_270)).astype(int)
    change = np.abs(drawn - plain).mean(axis=2)
    inside = _expected()
    assert change[inside].mean() > 4 * change[100:].mean()


def _drop_on_page(browser: Any, url: str, model: str, photograph: bytes) -> None:
    browser.open(f"{url}/", width=1400)
    browser.wait("document.getElementById('facts').textContent !== ''")
    text = base64.b64encode(photograph).decode()
    browser.js(
        f"{{const menu = document.getElementById('model'); menu.value = '{model}';"
        "menu.dispatchEvent(new Event('change'));}"
    )
    browser.wait(f"document.getElementById('name').textContent === '{model}'")
    browser.js(
        f"{{const bytes = Uint8Array.from(atob('{text}'), (one) => one.charCodeAt(0));"
        "const files = new DataTransfer(); files.items.add(new File([bytes], 'a.jpg', {type: 'image/jpeg'}));"
        "window.dispatchEvent(new DragEvent('drop', {dataTransfer: files, cancelable: true}));}"
    )
    browser.wait("document.getElementById('status').textContent.includes('answered in')")


def test_the_page_shows_masks_and_keypoints(browser: Any, instances: Any, photograph: bytes) -> None:
    _drop_on_page(browser, instances.url, "discs", photograph)
    place = browser.js(
        "['x', 'y', 'width', 'height'].map((key) => Number(document.querySelector('#drawing image').getAttribute(key)))"
    )
    _drop_on_page(browser, instances.url, "points", photograph)
    points = browser.js(
        "[...document.querySelectorAll('#drawing circle')].map((one) =>"
        " [Number(one.getAttribute('cx')), Number(one.getAttribute('cy'))])"
    )

    left, top, right, bottom = XYXY
    assert place == [math.floor(left), math.floor(top), math.ceil(right) - math.floor(left),
                     math.ceil(bottom) - math.floor(top)]  # fmt: skip
    x, y, _ = POINTS[0]
    assert points == [pytest.approx([(x - OFFSET_XY[0]) / SCALE_XY[0], (y - OFFSET_XY[1]) / SCALE_XY[1]], abs=0.01)]
    assert browser.complaints() == []
