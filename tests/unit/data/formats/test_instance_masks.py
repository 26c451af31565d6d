"""A mask picture for each object."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from visionyard.data.formats import SourceTree, choose_format
from visionyard.data.formats.instance_masks import FORMAT, evidence, read
from visionyard.data.formats.reading import RawBox, SourceImage, checked_boxes
from visionyard.data.items import Problems
from visionyard.errors import DataError

Scan = Callable[..., SourceTree]
JPG = b""  # 100x50


def mask(
    left: int, top: int, width: int, height: int, *, size_wh: tuple[int, int] = (100, 50), value: int = 255
) -> bytes:
    pixels = np.zeros((size_wh[1], size_wh[0]), np.uint8)
    pixels[top : top + height, left : left + width] = value
    return encoded(pixels)


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


A, B = mask(3, 4, 10, 20), mask(90, 40, 10, 10)


def images_of(tree: SourceTree, problems: Problems | None = None) -> dict[str, SourceImage]:
    return {image.file.name: image for image in read(tree, problems or Problems()).images}


def boxes_of(image: SourceImage) -> tuple[RawBox, ...]:
    assert image.labels is not None
    return image.labels.boxes


@pytest.mark.parametrize(
    ("files", "image", "classes"),
    [
        pytest.param(["7/images/7.png", "7/masks/a.png", "7/masks/b.png"], "7/images/7.png", ["object"] * 2, id="DSB"),
        pytest.param(
            ["train/7/images/x.png", "train/7/masks/a.png", "train/7/masks/b.png"],
            "train/7/images/x.png", ["object"] * 2, id="below a split",
        ),
        pytest.param(
            ["7/images/7.png", "7/masks/cell/a.png", "7/masks/dirt/a.png"], "7/images/7.png", ["cell", "dirt"],
            id="class folders",
        ),
        pytest.param(
            ["images/7.jpg", "images/8.jpg", "masks/7/a.png", "masks/7/b.png"], "images/7.jpg", ["object"] * 2,
            id="a folder for each image",
        ),
        pytest.param(
            ["images/7.jpg", "images/8.jpg", "masks/7/cell/a.png", "masks/7/dirt/b.png"], "images/7.jpg",
            ["cell", "dirt"], id="with classes",
        ),
        pytest.param(
            ["images/7.jpg", "images/8.jpg", "masks/7_0.png", "masks/7_1.png"], "images/7.jpg", ["object"] * 2,
            id="numbered",
        ),
        pytest.param(
            ["images/a-1.jpg", "images/a.jpg", "masks/a-1_mask_0.png", "masks/a-1_mask_1.png"], "images/a-1.jpg",
            ["object"] * 2, id="numbered, with a word",
        ),
    ],
)  # fmt: skip
def test_layouts(scan: Scan, files: list[str], image: str, classes: list[str]) -> None:
    masks = [name for name in files if "/masks/" in f"/{name}"]
    tree = scan(dict.fromkeys(files, JPG) | dict(zip(masks, (A, B), strict=True)))
    boxes = boxes_of(images_of(tree)[image])
    assert [box.class_name for box in boxes] == classes
    assert [box.xyxy for box in boxes] == [(3, 4, 13, 24), (90, 40, 100, 50)]
    assert [box.item for box in boxes] == [name.rpartition("/")[2] for name in masks]
    chosen, shown = choose_format(tree, "auto")
    assert chosen is FORMAT
    assert shown.endswith(f"such as {masks[0]} for {image}")


def test_masks_are_kept_pixel_by_pixel(scan: Scan) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (50, 100)).astype(np.uint8) * 255
    image = images_of(scan({"7/images/7.png": JPG, "7/masks/a.png": encoded(pixels), "7/masks/b.png": B}))
    (labels,) = (each.labels for each in image.values())
    assert labels is not None
    assert labels.size_wh == (100, 50)
    boxes = checked_boxes(labels, (100, 50), Problems())
    assert boxes is not None
    assert boxes[0].mask is not None
    np.testing.assert_array_equal(boxes[0].mask.to_array(), pixels > 0)


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(["images/1.jpg", "masks/1.png", "images/2.jpg", "masks/2.png"], id="a mask for each image"),
        pytest.param(["images/a.jpg", "images/a_1.jpg", "masks/a.png", "masks/a_1.png"], id="numbered names of images"),
        pytest.param(["images/a.jpg", "images/b.jpg", "masks/a_mask.png", "masks/b_mask.png"], id="not numbered"),
        pytest.param(["images/1.jpg"], id="images alone"),
        pytest.param(["cat/1.jpg", "cat/2.jpg", "mask/1.jpg", "mask/2.jpg"], id="a class that is called so"),
        pytest.param(["7/images/1.jpg", "7/images/2.jpg", "7/masks/a.png", "7/masks/b.png"], id="of which image?"),
    ],
)
def test_other_layouts_show_nothing(scan: Scan, files: list[str]) -> None:
    assert evidence(scan(dict.fromkeys(files, JPG))) == ""


def test_the_one_class_may_be_named(scan: Scan) -> None:
    files = {"7/images/7.png": JPG, "7/masks/a.png": A, "7/masks/b.png": B, "classes.txt": "nucleus\n"}
    assert {box.class_name for image in images_of(scan(files)).values() for box in boxes_of(image)} == {"nucleus"}


def test_several_names_need_folders(scan: Scan) -> None:
    files = {"7/images/7.png": JPG, "7/masks/a.png": A, "classes.txt": "cell\ndirt\n"}
    with pytest.raises(DataError, match=r"classes\.txt: expected the name of one class, got 2 lines; for several"):
        read(scan(files), Problems())


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        pytest.param(mask(0, 0, 0, 0), "mask_without_pixels", "holds no pixel", id="empty"),
        pytest.param(
            mask(1, 1, 5, 5, size_wh=(50, 100)), "mask_size_differs", "of 50x100 px, those before", id="turned"
        ),
        pytest.param(A[:60], "unreadable_mask", "it may be truncated", id="cut short"),
        pytest.param(encoded(np.zeros((50, 100), np.uint8), "JPEG"), "unreadable_mask", "labels as JPEG", id="JPEG"),
    ],
)
def test_a_mask_that_cannot_be_used_is_left_out(scan: Scan, data: bytes, code: str, message: str) -> None:
    problems = Problems()
    tree = scan({"7/images/7.png": JPG, "7/masks/a.png": A, "7/masks/b.png": data})
    (image,) = images_of(tree, problems).values()
    assert [box.item for box in boxes_of(image)] == ["a.png"]
    assert image.labels is not None
    assert image.labels.has_faults
    assert [(problem.code, problem.file) for problem in problems.found] == [(code, "7/masks/b.png")]
    assert message in problems.found[0].message


def test_blurred_edges_are_cut_in_the_middle(scan: Scan) -> None:
    pixels = np.zeros((50, 100), np.uint8)
    pixels[10, 10:14] = (100, 127, 128, 255)
    problems = Problems()
    tree = scan({"7/images/7.png": JPG, "7/masks/a.png": encoded(pixels), "7/masks/b.png": B})
    (image,) = images_of(tree, problems).values()
    assert boxes_of(image)[0].xyxy == (12, 10, 14, 11)
    assert [problem.code for problem in problems.found] == ["mask_not_binary"]


def test_what_belongs_nowhere_is_told(scan: Scan) -> None:
    files = {
        "7/images/7.png": JPG,
        "7/masks/a.png": A,
        "7/masks/b.png": B,
        "8/images/8.png": JPG,
        "9/masks/a.png": A,
        "preview.png": JPG,
    }
    problems = Problems()
    assert images_of(scan(files), problems)["8/images/8.png"].labels is None
    assert {(problem.code, problem.file) for problem in problems.found} == {
        ("image_without_labels", "8/images/8.png"),
        ("mask_without_image", "9/masks/a.png"),
        ("file_left_out", "preview.png"),
    }


def test_lossy_masks_are_refused_by_name(scan: Scan) -> None:
    jpeg = encoded(np.zeros((50, 100), np.uint8), "JPEG")
    with pytest.raises(DataError, match=r"7/masks/a\.jpg: a mask as JPEG, which changes pixels"):
        read(scan({"7/images/7.png": JPG, "7/masks/a.jpg": jpeg, "7/masks/b.jpg": jpeg}), Problems())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_altered_masks_are_read_or_told(tmp_path: Path, data: st.DataObject) -> None:
    altered = bytearray(A)
    for _ in range(data.draw(st.integers(1, 6))):
        altered[data.draw(st.integers(8, len(altered) - 1))] = data.draw(st.integers(0, 255))
    altered = altered[: data.draw(st.integers(9, len(altered)))]
    root = tmp_path / "fuzz"
    for name, content in {"7/images/7.png": A, "7/masks/a.png": B, "7/masks/b.png": bytes(altered)}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    problems = Problems()
    (image,) = images_of(SourceTree.scan(root, Problems()), problems).values()
    told = {problem.file for problem in problems.found}
    assert len(boxes_of(image)) == 2 or told == {"7/masks/b.png"}
