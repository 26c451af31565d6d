"""IDX files: images and labels by position, whatever is missing, short or altered."""

import gzip
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionyard.data.formats import SourceTree, archives, choose_format, idx
from visionyard.data.formats.archives import UnpackLimits
from visionyard.data.formats.reading import SourceImage
from visionyard.data.items import Problems
from visionyard.errors import DataError
from visionyard.transforms import decode_image

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx_file(values: np.ndarray, kind: int = 0x08) -> bytes:
    return bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def pixels(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


GREY = pixels(3, 5, 4)
TRAIN = {IMAGES: idx_file(GREY), LABELS: idx_file(np.array([7, 2, 7], dtype=np.uint8))}


def read(tree: SourceTree, problems: Problems) -> list[SourceImage]:
    return list(idx.read(tree, problems).images)


def codes(problems: Problems) -> list[tuple[str, str]]:
    return [(problem.code, problem.file) for problem in problems.found]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_pixels_labels_and_split(scan: Any, pack: Callable[[bytes], bytes]) -> None:
    end = ".gz" if pack is gzip.compress else ""
    tree, problems = scan({name + end: pack(data) for name, data in TRAIN.items()}), Problems()
    assert choose_format(tree, "auto")[0] is idx.FORMAT
    reading = idx.read(tree, problems)
    images = list(reading.images)
    assert (reading.item_count, reading.classes, problems.found) == (3, ["2", "7"], [])
    assert [(i.file.name, i.class_name, i.published_split) for i in images] == [
        (f"{IMAGES}/0.png", "7", "train"),
        (f"{IMAGES}/1.png", "2", "train"),
        (f"{IMAGES}/2.png", "7", "train"),
    ]
    for image, expected in reversed(list(zip(images, GREY))):  # asked for in any order
        assert image.data
        assert (decode_image(image.data()) == expected[..., None]).all()  # grey, as three channels


@pytest.mark.parametrize("shape", [(5, 4, 3), (3, 5, 4)], ids=["channels last", "channels first"])
def test_colour(scan: Any, shape: tuple[int, ...]) -> None:
    values = pixels(2, *shape)
    (first, _) = read(scan({"test-images-idx4-ubyte": idx_file(values)}), Problems())
    rgb = values[0] if shape[-1] == 3 else values[0].transpose(1, 2, 0)
    assert first.data
    assert (decode_image(first.data()) == rgb).all()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("t10k-images-idx3-ubyte", "test"),
        ("train-images.idx3-ubyte", "train"),
        ("emnist-letters-test-images-idx3-ubyte", "test"),
        ("val/images-idx3-ubyte", "val"),
        ("images-idx3-ubyte", None),
    ],
)
def test_the_split_that_a_name_gives(scan: Any, name: str, split: str | None) -> None:
    problems = Problems()
    assert {image.published_split for image in read(scan({name: idx_file(GREY)}), problems)} == {split}
    assert codes(problems) == [("image_without_labels", name)]


def test_class_names(scan: Any) -> None:
    names = "\n".join(["T-shirt/top", "Trouser", "Pullover"])
    problems = Problems()
    tree = scan({**TRAIN, "classes.txt": names})
    reading = idx.read(tree, problems)
    assert [image.class_name for image in reading.images] == ["Pullover"]
    assert reading.classes == ["T-shirt/top", "Trouser", "Pullover"]
    assert codes(problems) == [("unknown_class", f"{IMAGES}/0.png"), ("unknown_class", f"{IMAGES}/2.png")]
    assert problems.found[0].message == "class number 7 has no name among 3; left out"


BIG = np.array([70000, 1, 2], dtype=">i4")


@pytest.mark.parametrize(
    ("files", "count", "expected", "message"),
    [
        pytest.param({IMAGES: TRAIN[IMAGES][:-1]}, 2, ("file_cut_short", IMAGES), "after 2 of 3 images", id="short"),
        pytest.param({LABELS: TRAIN[LABELS][:-1]}, 2, ("file_cut_short", LABELS), "2 of 3 labels", id="short labels"),
        pytest.param({IMAGES: TRAIN[IMAGES] + b"x"}, 3, ("data_after_end", IMAGES), "more bytes than", id="long"),
        pytest.param(
            {LABELS: idx_file(np.zeros(2, np.uint8))}, 2, ("count_differs", LABELS), "2 labels for 3", id="fewer labels"
        ),
        pytest.param(
            {LABELS: idx_file(np.zeros(4, np.uint8))}, 3, ("count_differs", LABELS), "4 labels for 3", id="more labels"
        ),
        pytest.param({IMAGES: b"\0\0\x08\x07" + bytes(60)}, 0, ("unreadable_file", IMAGES), "00 00 08 07", id="magic"),
        pytest.param({IMAGES: b"\0\0\x08\x03\0"}, 0, ("unreadable_file", IMAGES), "ends within its header", id="head"),
        pytest.param({IMAGES: b""}, 0, ("unreadable_file", IMAGES), "first bytes are missing", id="empty file"),
        pytest.param(
            {IMAGES: idx_file(GREY, 0x0D)}, 0, ("unreadable_file", IMAGES), "type 0x0d of shape (3, 5, 4)", id="floats"
        ),
        pytest.param(
            {IMAGES: b"\0\0\x08\x03" + b"\xff" * 12}, 0, ("unreadable_file", IMAGES), "18446744065119617025", id="huge"
        ),
        pytest.param(
            {IMAGES: b"\0\0\x08\x03" + b"\xff" * 4 + b"\0\0\0\1" * 2},
            0,
            ("unreadable_file", IMAGES),
            "claims 4294967295 images",
            id="count",
        ),
        pytest.param(
            {LABELS: idx_file(GREY)},
            0,
            ("unreadable_labels", LABELS),
            "(3, 5, 4), expected whole numbers",
            id="swapped",
        ),
        pytest.param({LABELS: idx_file(BIG, 0x0C)}, 3, None, "", id="labels of four bytes"),
        pytest.param({f"{IMAGES}.gz": gzip.compress(b"")}, 3, ("file_twice", f"{IMAGES}.gz"), "same set", id="twice"),
    ],
)
def test_what_is_wrong_is_noted(
    scan: Any, files: dict[str, bytes], count: int, expected: tuple[str, str] | None, message: str
) -> None:
    problems = Problems()
    # An empty file stands for a picture in `scan`; a blank does not.
    tree = scan({name: data or "" for name, data in {**TRAIN, **files}.items()}, problems)
    assert len(read(tree, problems)) == count
    assert codes(problems) == ([expected] if expected else [])
    assert all(message in problem.message for problem in problems.found)


def test_labels_alone(scan: Any) -> None:
    problems = Problems()
    assert read(scan({LABELS: TRAIN[LABELS]}), problems) == []
    assert codes(problems) == [("labels_without_image", LABELS)]


def test_damaged_gzip(scan: Any) -> None:
    data = gzip.compress(idx_file(pixels(400, 28, 28)))
    problems = Problems()
    images = read(scan({f"{IMAGES}.gz": data[: len(data) // 2]}), problems)
    assert 150 < len(images) < 250
    assert problems.found[-1].message.startswith("its gzip data are damaged (Compressed file ended before")
    problems = Problems()
    altered = data[:-8] + b"\0\0\0\0" + data[-4:]
    assert len(read(scan({f"{IMAGES}.gz": altered}), problems)) == 400
    assert "CRC check failed" in problems.found[-1].message


def test_a_bomb(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from visionyard.data.formats import packed_stream

    limits = UnpackLimits(free_bytes=100_000)
    original = packed_stream.PackedStream.__init__
    monkeypatch.setattr(
        packed_stream.PackedStream,
        "__init__",
        lambda self, path, **values: original(self, path, **values, limits=limits),
    )
    assert limits.max_ratio == archives.DEFAULT_LIMITS.max_ratio
    problems = Problems()
    data = gzip.compress(idx_file(np.zeros((2000, 28, 28), np.uint8)))
    assert 0 < len(read(scan({f"{IMAGES}.gz": data}), problems)) < 200
    assert "taken for a bomb; the rest is left out" in problems.found[-1].message


def test_a_source_without_such_files(scan: Any) -> None:
    tree = scan({"a.txt": "x"})
    assert idx.evidence(tree) == ""
    with pytest.raises(DataError, match=r"expected train-images-idx3-ubyte\.gz beside .*; found no file named so"):
        idx.read(tree, Problems())


PACKED = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in TRAIN.items()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*TRAIN.items(), *PACKED.items()]), st.integers(0, 100), st.binary(max_size=9), st.integers(0, 9)
)
def test_altered_files_give_images_or_notes(
    tmp_path: Path, file: tuple[str, bytes], at: int, inserted: bytes, removed: int
) -> None:
    name, data = file
    for each, content in (PACKED if name in PACKED else TRAIN).items():
        (tmp_path / each).write_bytes(content)
    (tmp_path / name).write_bytes(data[:at] + inserted + data[at + removed :])
    problems = Problems()
    tree = SourceTree.scan(tmp_path, Problems())
    images = read(tree, problems)
    assert all(image.data and decode_image(image.data()).size for image in images)
    assert len(images) == 3 or {problem.file for problem in problems.found} <= {*TRAIN, *PACKED, f"{IMAGES}/0.png"}
    assert len(images) == 3 or problems.found
    for each in tmp_path.iterdir():
        each.unlink()


def test_fashion_mnist(shared_data: Callable[[str], Path]) -> None:
    problems = Problems()
    tree = SourceTree.scan(shared_data("fashion-mnist"), Problems())
    assert choose_format(tree, "auto")[0] is idx.FORMAT
    reading = idx.read(tree, problems)
    counts: Counter[tuple[str | None, str | None]] = Counter()
    first = None
    for image in reading.images:
        first = first or image
        counts[image.published_split, image.class_name] += 1
    # Figures of its own README.
    expected = {(split, str(n)): count for split, count in (("train", 6000), ("test", 1000)) for n in range(10)}
    assert (counts, reading.item_count, problems.found) == (expected, 70_000, [])
    assert first is not None
    assert first.data
    assert (first.file.name, first.class_name) == ("t10k-images-idx3-ubyte/0000.png", "9")
    assert decode_image(first.data()).shape == (28, 28, 3)
