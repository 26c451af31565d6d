"""Real photographs by way of CSV and TFRecord, and the same files with bytes altered."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from visionyard.data.formats import SourceTree, choose_format, csv_labels, idx, tfrecord
from visionyard.data.formats.tf_example import encode_example
from visionyard.data.formats.tfrecord_wire import framed
from visionyard.data.items import Problems

SharedData = Callable[[str], Path]
PER_CLASS = 6


def photos(root: Path) -> list[Path]:
    """Return a few photographs of each class, in order."""
    found = sorted(root.rglob("*.jpg"))
    taken: Counter[str] = Counter()
    kept = []
    for path in found:
        taken[path.parent.name] += 1
        if taken[path.parent.name] <= PER_CLASS:
            kept.append(path)
    return kept


def test_photos_listed_in_a_csv(shared_data: SharedData, tmp_path: Path) -> None:
    rows = ["file name;Category"]
    for path in photos(shared_data("trashnet-mini")):
        shutil.copy(path, tmp_path / path.name)
        rows.append(f"C:\\photos\\{path.parent.name}\\{path.name};{path.parent.name}")
    (tmp_path / "labels.csv").write_text("\r\n".join(rows), encoding="utf-8-sig")
    problems = Problems()
    tree = SourceTree.scan(tmp_path, problems)
    assert choose_format(tree, "auto")[0] is csv_labels.FORMAT
    images = list(csv_labels.read(tree, problems).images)
    classes = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    assert Counter(image.class_name for image in images) == dict.fromkeys(classes, PER_CLASS)
    assert all(str(image.class_name) in image.file.name for image in images)
    assert problems.found == []


def records(paths: list[Path]) -> bytes:
    return b"".join(
        framed(
            encode_example(
                {
                    "image/encoded": [path.read_bytes()],
                    "image/filename": [path.name],
                    "image/class/text": [path.parent.name],
                }
            )
        )
        for path in paths
    )


def test_photos_in_a_tfrecord(shared_data: SharedData, tmp_path: Path) -> None:
    paths = photos(shared_data("trashnet-mini"))
    (tmp_path / "train.tfrecord").write_bytes(records(paths))
    problems = Problems()
    tree = SourceTree.scan(tmp_path, problems)
    images = list(tfrecord.read(tree, problems).images)
    assert [image.data() for image in images if image.data] == [path.read_bytes() for path in paths]
    assert [image.class_name for image in images] == [path.parent.name for path in paths]
    assert [image.file.name for image in images] == [f"train.tfrecord/{path.name}" for path in paths]
    assert problems.found == []


def test_an_altered_tfrecord_loses_only_what_was_altered(shared_data: SharedData, tmp_path: Path) -> None:
    paths = photos(shared_data("trashnet-mini"))[:8]
    data = records(paths)
    originals = [path.read_bytes() for path in paths]
    rng = random.Random(0)
    for _ in range(25):
        altered = bytearray(data)
        altered[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "train.tfrecord").write_bytes(altered)
        problems = Problems()
        images = list(tfrecord.read(SourceTree.scan(tmp_path, Problems()), problems).images)
        (problem,) = problems.found
        assert (problem.code, problem.file) == ("damaged_record", "train.tfrecord")
        number = int(problem.item.removeprefix("record "))
        found = [image.data() for image in images if image.data]
        assert found in (originals[: number - 1] + originals[number:], originals[: number - 1])


def test_an_altered_idx_file_never_gives_images_unseen(shared_data: SharedData, tmp_path: Path) -> None:
    folder = shared_data("fashion-mnist")
    data = (folder / "t10k-images-idx3-ubyte.gz").read_bytes()
    shutil.copy(folder / "t10k-labels-idx1-ubyte.gz", tmp_path)
    rng = random.Random(0)
    for _ in range(6):
        altered = bytearray(data)
        altered[rng.randrange(20, len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(altered)
        problems = Problems()
        images = list(idx.read(SourceTree.scan(tmp_path, Problems()), problems).images)
        assert len(images) <= 10_000
        assert {problem.file for problem in problems.found} == {"t10k-images-idx3-ubyte.gz"}
