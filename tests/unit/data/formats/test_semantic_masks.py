"""Images and their mask pictures: which belong together, and what the numbers mean."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from visionyard.data.formats import SourceTree, choose_format
from visionyard.data.formats.label_pictures import LabelPicture
from visionyard.data.formats.semantic_masks import FORMAT, evidence, read
from visionyard.data.items import Problems
from visionyard.errors import DataError

Scan = Callable[..., SourceTree]
JPG = b""


def mask(*values: Any, form: str = "PNG") -> bytes:
    """Return a picture of one row: grey levels, or colours."""
    stream = io.BytesIO()
    Image.fromarray(np.array([values], np.uint8)).save(stream, form)
    return stream.getvalue()


def indexed(indices: list[int], palette: list[int]) -> bytes:
    image = Image.frombytes("P", (len(indices), 1), bytes(indices))
    image.putpalette(palette)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def pairs(tree: SourceTree) -> dict[str, str | None]:
    images = read(tree, Problems()).images
    return {image.file.name: image.mask_file.name if image.mask_file else None for image in images}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        pytest.param("images/a.jpg", "masks/a.png", id="masks"),
        pytest.param("images/a.jpg", "labels/a.png", id="labels"),
        pytest.param("train/image/0.png", "train/label/0.png", id="below a split"),
        pytest.param("images/train/a.jpg", "annotations/train/a.png", id="above a split"),
        pytest.param("JPEGImages/a.jpg", "SegmentationClass/a.png", id="VOC"),
        pytest.param("train/a.png", "train_labels/a_L.png", id="CamVid"),
        pytest.param("test/a.png", "testannot/a.png", id="SegNet"),
        pytest.param("train/a.jpg", "train/a_mask.png", id="Roboflow"),
        pytest.param("a.jpg", "a-label.png", id="one folder"),
        pytest.param("images/a.jpg", "gt/a_gt.png", id="gt"),
        pytest.param("img/deep/a.jpg", "ground_truth/deep/a.png", id="deep"),
    ],
)
def test_layouts(scan: Scan, image: str, label: str) -> None:
    tree = scan({image: JPG, label: mask(0, 1)})
    assert pairs(tree) == {image: label}
    chosen, shown = choose_format(tree, "auto")
    assert chosen is FORMAT
    expected = f"1 images with a mask of their name each, such as {label} for {image}, 0 images without, no class map"
    assert shown == expected


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(["with_mask/1.jpg", "without_mask/1.jpg"], id="classes that are called so"),
        pytest.param(["cat/1.jpg", "dog/1.jpg"], id="classes"),
        pytest.param(["images/1.jpg", "images/2.jpg"], id="images alone"),
        pytest.param(["images/1.jpg", "masks/2.png"], id="other names"),
        pytest.param(["images/1.jpg", "masks/1.png", "masks/2.png"], id="as many left over"),
    ],
)
def test_other_layouts_show_nothing(scan: Scan, files: list[str]) -> None:
    assert evidence(scan(dict.fromkeys(files, JPG))) == ""


def test_what_has_no_partner_is_told(scan: Scan) -> None:
    files = {
        "images/a.jpg": JPG,
        "images/b.jpg": JPG,
        "masks/a.png": mask(0, 1),
        "masks/a_mask.png": mask(0, 1),
        "masks/c.png": mask(0, 1),
        "SegmentationObject/a.png": mask(1, 2),
    }
    problems = Problems()
    images = list(read(scan(files), problems).images)
    assert [image.file.name for image in images] == ["images/a.jpg", "images/b.jpg"]
    assert {(problem.code, problem.file) for problem in problems.found} == {
        ("image_without_labels", "images/b.jpg"),
        ("mask_without_image", "masks/a_mask.png"),
        ("mask_without_image", "masks/c.png"),
    }


def test_published_splits(scan: Scan) -> None:
    tree = scan({"train/image/1.png": JPG, "train/label/1.png": mask(0, 1), "test/2.png": JPG})
    assert [image.published_split for image in read(tree, Problems()).images] == ["test", "train"]


COLOUR_MAP = "name,r,g,b\nvoid,0,0,0\nroad,128,64,128\nwhite,255,255,255\n"


@pytest.mark.parametrize(
    ("masks", "files", "classes", "expected"),
    [
        pytest.param([mask(0, 255)], {}, ["background", "foreground"], [[0, 1]], id="0 and 255"),
        pytest.param([mask(255, 255), mask(0, 0)], {}, ["background", "foreground"], [[1, 1], [0, 0]], id="in two"),
        pytest.param([mask(0, 3, 255)], {}, ["0", "3"], [[0, 1, 255]], id="numbers"),
        pytest.param([mask(0, 1)], {}, ["0", "1"], [[0, 1]], id="0 and 1"),
        pytest.param([indexed([2, 5, 255], [9, 8, 7] * 256)], {}, ["2", "5"], [[0, 1, 255]], id="indices"),
        pytest.param([mask([3, 3, 3], [0, 0, 0])], {}, ["0", "3"], [[1, 0]], id="grey saved as colour"),
        pytest.param(
            [mask(0, 2)], {"classes.txt": "sky\nroad\ncar\n"}, ["sky", "road", "car"], [[0, 2]], id="names alone"
        ),
        pytest.param(
            [mask(0, 255)], {"classes.csv": "id,name\n255,cell\n0,membrane\n"}, ["membrane", "cell"], [[0, 1]],
            id="by number",
        ),
        pytest.param(
            [mask([128, 64, 128], [0, 0, 0])], {"class_dict.csv": COLOUR_MAP}, ["void", "road", "white"], [[1, 0]],
            id="colours",
        ),
        pytest.param(
            [indexed([1, 0], [0, 0, 0, 128, 64, 128])], {"class_dict.csv": COLOUR_MAP}, ["void", "road", "white"],
            [[1, 0]], id="colours of a palette",
        ),
        pytest.param(
            [mask(0, 255)], {"class_dict.csv": COLOUR_MAP}, ["void", "road", "white"], [[0, 2]],
            id="grey that is a colour",
        ),
        pytest.param(
            [mask(0, 0), mask(1, 2)], {"class_dict.csv": COLOUR_MAP}, ["void", "road", "white"], [[0, 0], [1, 2]],
            id="grey that is a place",
        ),
        pytest.param(
            [mask(0, 2)], {"class_dict.csv": "name,r,g,b\nvoid,0,0,0\nvoid,1,2,3\nroad,4,5,6\n"}, ["void", "road"],
            [[0, 1]], id="places count colours",
        ),
        pytest.param(
            [mask(0, 1)], {"deep/classes.txt": "x\ny\nz\n", "classes.txt": "a\nb\n"}, ["a", "b"], [[0, 1]],
            id="the map nearest to the top",
        ),
    ],
)  # fmt: skip
def test_what_the_numbers_mean(
    scan: Scan, masks: list[bytes], files: dict[str, str], classes: list[str], expected: list[list[int]]
) -> None:
    images = {f"images/{place}.jpg": JPG for place in range(len(masks))}
    labels = {f"masks/{place}.png": data for place, data in enumerate(masks)}
    reading = read(scan({**images, **labels, **files}), Problems())
    assert reading.classes == classes
    assert reading.class_map is not None
    assert [reading.class_map.class_ids(LabelPicture.decode(data))[0][0].tolist() for data in masks] == expected


@pytest.mark.parametrize(
    ("data", "files", "message"),
    [
        pytest.param(
            mask([1, 2, 3]), {}, r"masks/a\.png: the mask is in colour, and source has no class map", id="RGB"
        ),
        pytest.param(mask(*range(250)), {}, r"the masks hold 250 numbers \(0, 1, 2", id="no classes at all"),
        pytest.param(mask(255), {"classes.json": "{"}, r"classes\.json: not valid JSON", id="broken map"),
        pytest.param(mask(0), {"classes.txt": b"\xff\xfe\0"}, r"classes\.txt: not UTF-8 text", id="another encoding"),
        pytest.param(b"\x89PNG\r\n\x1a\nxx", {}, "source: no mask says of any pixel", id="broken mask"),
        pytest.param(
            mask(9, 4),
            {"class_dict.csv": COLOUR_MAP},
            "are grey with the numbers 4, 9, which are neither",
            id="neither",
        ),
    ],
)
def test_masks_without_meaning_are_refused(scan: Scan, data: bytes, files: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(scan({"images/a.jpg": JPG, "masks/a.png": data, **files}), Problems())


def test_lossy_masks_are_refused_by_name(scan: Scan) -> None:
    tree = scan({"images/a.png": JPG, "masks/a.jpg": mask(0, 1, form="JPEG")})
    with pytest.raises(DataError, match=r"masks/a\.jpg: labels as JPEG, which changes pixels"):
        read(tree, Problems())


def test_a_class_map_of_any_length_is_not_read(scan: Scan) -> None:
    files = {"images/a.jpg": JPG, "masks/a.png": mask(0, 1), "classes.txt": "x" * (2 << 20)}
    with pytest.raises(DataError, match=r"classes\.txt: has 2097152 bytes, expected a class map of at most"):
        read(scan(files), Problems())


def test_images_alone_are_refused(scan: Scan) -> None:
    with pytest.raises(DataError, match="found 1 images and no mask of the same name; expected images with a mask"):
        read(scan({"images/a.jpg": JPG}), Problems())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_altered_masks_are_read_or_told(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of a real mask are changed, cut or added: what is found is of a kind that ingest notes."""
    intact = mask(*range(60))
    altered = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 6))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    altered = altered[: data.draw(st.integers(9, len(altered)))]
    root = tmp_path / "fuzz"
    for name, content in {"images/a.png": intact, "masks/a.png": bytes(altered)}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    try:
        reading = read(SourceTree.scan(root, Problems()), Problems())
        assert reading.class_map is not None
        ids, _ = reading.class_map.class_ids(LabelPicture.decode(bytes(altered)))
        assert ids.dtype == np.uint8
    except DataError as error:
        assert str(error)
