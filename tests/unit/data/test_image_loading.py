"""Masks from a source to the `sources` artifact."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures import source_files
from visionyard.data.artifacts import read_manifest, read_problems
from visionyard.data.class_masks import decode_class_mask
from visionyard.data.ingest import ingest
from visionyard.data.items import Item
from visionyard.data.shards import read_blob

SIZE_WH = (40, 30)


def encoded(pixels: np.ndarray, form: str = "PNG", *, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, exif=exif)
    return stream.getvalue()


def photo(orientation: int = 1, size_wh: tuple[int, int] = SIZE_WH) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    return encoded(pixels, "JPEG", orientation=orientation)


def label(*ids: int, size_wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    return np.resize(np.array(ids, np.uint8), (size_wh[1], size_wh[0]))


def items(folder: Path) -> dict[str, Item]:
    return {item.source: item for item in source_files.items(folder)}


@pytest.fixture
def bring_in(tmp_path: Path) -> Callable[[Mapping[str, bytes | str]], Path]:
    """Return a function from files to the `sources` made of them."""

    def run(files: Mapping[str, bytes | str], name: str = "one") -> Path:
        ingest(source_files.write(tmp_path / name / "source", files), tmp_path / name / "out")
        return tmp_path / name / "out"

    return run


def test_semantic_masks_are_stored_as_class_ids(bring_in: Callable[..., Path]) -> None:
    colours = np.array([[0, 0, 255], [9, 9, 9], [255, 0, 0]], np.uint8)
    files = {
        "train/images/a.jpg": photo(),
        "train/masks/a.png": encoded(colours[label(0, 2, 1)]),
        "test/images/b.jpg": photo(),
        "classes.csv": "name,r,g,b\ncar,255,0,0\nsky,0,0,255\n",
    }
    out = bring_in(files)
    assert read_manifest(out, "sources")["classes"] == ["car", "sky"]
    assert read_manifest(out, "sources")["task"] == "semantic_segmentation"
    found = items(out)
    item = found["train/images/a.jpg"]
    assert item.mask_blob is not None
    ids = decode_class_mask(read_blob(out / "shards", item.mask_blob))
    np.testing.assert_array_equal(ids, label(1, 0, 255))
    assert (item.mask_classes, item.boxes, item.class_name) == (("car", "sky"), None, None)
    assert found["test/images/b.jpg"].mask_blob is None
    assert {(problem.code, problem.file) for problem in read_problems(out)} == {
        ("unknown_mask_value", "train/masks/a.png"),
        ("image_without_labels", "test/images/b.jpg"),
    }


TURNED_180, TURNED_90 = 3, 6


@pytest.mark.parametrize(
    ("image", "mask", "code", "message"),
    [
        pytest.param(photo(), encoded(label(0, 1)), None, "", id="upright"),
        pytest.param(
            photo(TURNED_90), encoded(label(0, 1, size_wh=(30, 40))), None, "", id="drawn on the picture as displayed"
        ),
        pytest.param(
            photo(TURNED_90), encoded(label(0, 1)), "mask_size_differs", "of 40x30 px, its image as displayed of 30x40",
            id="drawn on the picture as stored",
        ),
        pytest.param(
            photo(TURNED_180), encoded(label(0, 1)), "mask_of_turned_image", "cannot be told; save the image upright",
            id="turned by 180 degrees",
        ),
        pytest.param(
            photo(TURNED_90, (30, 30)), encoded(label(0, 1, size_wh=(30, 30))), "mask_of_turned_image", "EXIF",
            id="square",
        ),
        pytest.param(photo(), encoded(label(0, 1))[:-30], "unreadable_mask", "truncated", id="cut short"),
        pytest.param(photo(), encoded(label(255)), "mask_without_classes", "says of no pixel", id="nobody said"),
        pytest.param(photo(), encoded(label(0, 1), "JPEG"), "unreadable_mask", "labels as JPEG", id="JPEG"),
    ],
)  # fmt: skip
def test_a_semantic_mask_and_its_image(
    image: bytes, mask: bytes, code: str | None, message: str, bring_in: Callable[..., Path]
) -> None:
    out = bring_in(
        {
            "images/a.jpg": image,
            "masks/a.png": mask,
            "images/b.jpg": photo(),
            "masks/b.png": encoded(label(0, 1)),
            "classes.txt": "sky\nroad\n",
        }
    )
    found = items(out)
    assert (found["images/a.jpg"].mask_blob is None) == (code is not None)
    assert found["images/b.jpg"].mask_classes == ("sky", "road")
    told = [
        (p.code, p.message) for p in read_problems(out) if p.file == "masks/a.png" and p.code != "extension_differs"
    ]
    assert [each for each, _ in told] == ([code] if code else [])
    assert all(message in text for _, text in told)
    assert all(text.endswith("; the image is kept as unlabelled") for _, text in told)


@pytest.mark.parametrize(
    ("image", "code"),
    [
        pytest.param(photo(), None, id="upright"),
        pytest.param(photo(TURNED_180), "mask_of_turned_image", id="turned by 180 degrees"),
        pytest.param(photo(TURNED_90), "size_differs", id="turned by 90 degrees"),
    ],
)
def test_masks_of_objects_and_their_image(image: bytes, code: str | None, bring_in: Callable[..., Path]) -> None:
    masks = {f"1/masks/{n}.png": encoded(label(0, n + 1)) for n in range(2)}
    others = {f"2/masks/{n}.png": encoded(label(0, n + 1)) for n in range(2)}
    out = bring_in({"1/images/a.jpg": image, **masks, "2/images/b.jpg": photo(), **others})
    found = items(out)
    assert [bool(box.mask) for box in found["2/images/b.jpg"].boxes or ()] == [True, True]
    assert bool(found["1/images/a.jpg"].boxes if "1/images/a.jpg" in found else ()) == (code is None)
    assert [problem.code for problem in read_problems(out)] == ([code] if code else [])


def test_the_digest_follows_the_masks_alone(bring_in: Callable[..., Path]) -> None:
    files: dict[str, Any] = {"images/a.jpg": photo(), "classes.txt": "sky\nroad\n"}
    same = {**files, "masks/a.png": encoded(label(0, 1))}
    digests = [
        read_manifest(bring_in(each, name), "sources")["digest"]
        for name, each in {
            "first": same,
            "again": same,
            "other format": {**files, "masks/a.bmp": encoded(label(0, 1), "BMP")},
            "other mask": {**files, "masks/a.png": encoded(label(0, 1, 1))},
        }.items()
    ]
    assert digests[0] == digests[1] == digests[2] != digests[3]
