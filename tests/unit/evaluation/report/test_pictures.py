import base64
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from visionyard.data.dataset import Dataset
from visionyard.evaluation.report.pictures import thumbnails


def _noise(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _open(picture: str) -> Image.Image:
    start = "data:image/jpeg;base64,"
    assert picture.startswith(start)
    return Image.open(io.BytesIO(base64.b64decode(picture.removeprefix(start))))


def test_the_largest_side_that_fits(make_dataset: Callable[..., Dataset]) -> None:
    row = {"split": "test", "class_ids": [0], "image": _noise(600, 300), "width": 600, "height": 300}
    dataset = make_dataset("classification", ["a", "b"], [row])
    samples = list(dataset.samples("test"))
    (roomy,) = thumbnails(dataset, samples, budget_bytes=10_000_000)
    assert _open(roomy).size == (480, 240)
    assert thumbnails(dataset, samples, budget_bytes=len(roomy)) == [roomy]
    (tight,) = thumbnails(dataset, samples, budget_bytes=len(roomy) - 100)
    assert _open(tight).size == (360, 180)
    (hopeless,) = thumbnails(dataset, samples, budget_bytes=0)
    assert _open(hopeless).size == (140, 70)


def test_a_small_image_is_not_blown_up(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset("classification", ["a"], [{"split": "test", "class_ids": [0]}])
    (picture,) = thumbnails(dataset, list(dataset.samples("test")), budget_bytes=1000)
    assert _open(picture).size == (64, 48)
