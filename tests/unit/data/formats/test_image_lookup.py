"""Which image a name in a label file means."""

from pathlib import PurePosixPath
from typing import Any

import pytest

from visionyard.data.formats import image_lookup
from visionyard.data.formats.image_lookup import Claims, ImageLookup, NotFound
from visionyard.data.items import Problems


def resolve(scan: Any, images: str, references: list[str], *, beside: str = ".", split: Any = None) -> list[str]:
    lookup = ImageLookup(scan(dict.fromkeys(images.split(), "")))
    found = lookup.resolve(references, beside=PurePosixPath(beside), split=split)
    return [each.code if isinstance(each, NotFound) else each.name for each in found]


@pytest.mark.parametrize(
    ("images", "reference", "beside", "split", "expected"),
    [
        pytest.param("a.jpg", "a.jpg", ".", None, "a.jpg", id="beside"),
        pytest.param("x/a.jpg y/a.jpg", "a.jpg", "x", None, "x/a.jpg", id="the one beside"),
        pytest.param("x/a.jpg y/a.jpg", "y/a.jpg", "x", None, "y/a.jpg", id="from the root"),
        pytest.param("x/a.jpg y/a.jpg", "./x/a.jpg", ".", None, "x/a.jpg", id="dot"),
        pytest.param("x/a.jpg y/a.jpg", "../x/a.jpg", "labels", None, "x/a.jpg", id="up and down"),
        pytest.param("x/a.jpg y/a.jpg", "C:\\data\\x\\a.jpg", ".", None, "x/a.jpg", id="Windows"),
        pytest.param("x/a.jpg y/a.jpg", "/home/me/set/x/a.jpg", "l", None, "x/a.jpg", id="absolute"),
        pytest.param("s/x/a.jpg s/y/a.jpg", "x/a.jpg", "l", None, "s/x/a.jpg", id="in a folder that is not named"),
        pytest.param("x/a.jpg y/a.jpg", "a.jpg", "l", None, "ambiguous_image", id="two of the name"),
        pytest.param("train/a.jpg val/a.jpg", "a.jpg", "l", "val", "val/a.jpg", id="by the split"),
        pytest.param("train/a.jpg", "a.jpg", "l", "val", "ambiguous_image", id="only in another split"),
        pytest.param("train/a.jpg", "train/a.jpg", ".", "val", "train/a.jpg", id="in another split, written so"),
        pytest.param("l/i/a.jpg k/a.jpg", "a.jpg", "l", None, "l/i/a.jpg", id="below the label file"),
        pytest.param("i/a.jpg", "frames/a.jpg", ".", None, "i/a.jpg", id="by its name alone"),
        pytest.param("valid/a.jpg", "train/a.jpg", ".", None, "ambiguous_image", id="of another split"),
        pytest.param("a.jpg", "b.jpg", ".", None, "image_not_found", id="missing"),
        pytest.param("a.jpg", "", ".", None, "image_not_found", id="empty"),
        pytest.param("a.jpg", "../../../etc/passwd", ".", None, "image_not_found", id="outside"),
        pytest.param("a.jpg", "/etc/passwd", ".", None, "image_not_found", id="absolute, outside"),
        pytest.param("a.jpg", "a\0.jpg", ".", None, "image_not_found", id="NUL"),
        pytest.param("a.jpg", "x/" * 100_000 + "b.jpg", ".", None, "image_not_found", id="very long"),
    ],
)
def test_one_name(scan: Any, images: str, reference: str, beside: str, split: Any, expected: str) -> None:
    assert resolve(scan, images, [reference], beside=beside, split=split) == [expected]


@pytest.mark.parametrize(
    ("images", "references", "beside", "split", "expected"),
    [
        pytest.param(
            "clip2/1.jpg clip2/2.jpg",
            ["clip1/1.jpg", "clip2/1.jpg", "clip1/2.jpg"],
            ".",
            None,
            ["image_not_found", "clip2/1.jpg", "clip2/2.jpg"],
            id="an image of a missing folder is not taken for one of another",
        ),
        pytest.param(
            "i/1.jpg",
            ["clip1/1.jpg", "clip2/1.jpg"],
            ".",
            None,
            ["ambiguous_image"] * 2,
            id="one image left for two names is not guessed",
        ),
        pytest.param("i/1.jpg", ["1.jpg", "i/1.jpg"], ".", None, ["i/1.jpg"] * 2, id="the same image twice"),
        pytest.param(
            "train/a.jpg val/a.jpg",
            ["a.jpg"] * 2,
            "l",
            ["val", "train"],
            ["val/a.jpg", "train/a.jpg"],
            id="each of a split of its own",
        ),
    ],
)
def test_several_names(
    scan: Any, images: str, references: list[str], beside: str, split: Any, expected: list[str]
) -> None:
    assert resolve(scan, images, references, beside=beside, split=split) == expected


def test_many_images_of_one_name_are_not_each_compared_with_all(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    common, compared = image_lookup._common, list[PurePosixPath]()

    def count(first: PurePosixPath, second: PurePosixPath) -> int:
        compared.append(second)
        return common(first, second)

    monkeypatch.setattr(image_lookup, "_common", count)
    names = [f"set/scene-{number}/rgb.png" for number in range(50)]
    found = resolve(scan, " ".join(names), [f"/home/me/{name}" for name in names] + ["/gone/scene-99/rgb.png"])
    assert found == [*names, "image_not_found"]
    assert len(compared) == len(names)


def test_long_names_are_cut_in_messages(scan: Any) -> None:
    lookup = ImageLookup(scan({"a.jpg": ""}))
    (found,) = lookup.resolve(["y" * 5000], beside=PurePosixPath())
    assert isinstance(found, NotFound)
    assert len(found.message) < 200


def test_the_first_file_that_names_an_image_labels_it(scan: Any) -> None:
    problems = Problems()
    (image,) = scan({"a.jpg": ""}).images()
    claims = Claims(problems)
    entries = [(NotFound("image_not_found", "there is none"), "one.json"), (image, "one.json"), (image, "two.json")]
    taken = [claims.take(each, file, f"image {number}") for number, (each, file) in enumerate(entries)]
    assert taken == [None, image, None]
    assert [(each.code, each.file, each.item, each.message) for each in problems.found] == [
        ("image_not_found", "one.json", "image 0", "there is none; its labels are left out"),
        ("image_labelled_twice", "two.json", "image 2", "a.jpg has its labels from one.json; left out"),
    ]
