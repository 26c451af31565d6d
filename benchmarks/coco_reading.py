"""A large COCO file: seconds and peak memory to read all its labels, against the whole file at once by `json.load`.

    python benchmarks/coco_reading.py [--images 100000] [--annotations 800000]

Writes one file of that many images and annotations, each with an outline of 20 points, seed 0 (as many annotations as
COCO's own train2017), then reads it in a process of its own each way: ours to the last label, `json.load` alone.
Images are only listed, not decoded. Prints a Markdown table. Takes about four minutes on one core and 400 MB of the
temporary folder.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from visionyard.data.formats import SourceTree, coco
from visionyard.data.formats.source_tree import SourceFile
from visionyard.data.items import Problems

POINT_COUNT = 20
NAME = "instances_train.json"


def write_file(path: Path, image_count: int, annotation_count: int) -> None:
    """Write the COCO file, entry by entry."""
    draw = random.Random(0)
    with path.open("w") as stream:
        stream.write('{"info": {"year": 2020}, "images": [')
        for number in range(image_count):
            entry = {"id": number, "file_name": f"{number:08d}.jpg", "width": 640, "height": 480}
            stream.write((", " if number else "") + json.dumps(entry))
        stream.write('], "annotations": [')
        for number in range(annotation_count):
            left, top = draw.randrange(500), draw.randrange(350)
            points = [round(side + draw.random() * 100, 2) for _ in range(POINT_COUNT) for side in (left, top)]
            entry = {
                "id": number,
                "image_id": draw.randrange(image_count),
                "category_id": draw.randrange(1, 81),
                "bbox": [left, top, 100, 100],
                "segmentation": [points],
                "iscrowd": 0,
            }
            stream.write((", " if number else "") + json.dumps(entry))
        categories = [{"id": number, "name": f"class {number}"} for number in range(1, 81)]
        stream.write(f'], "categories": {json.dumps(categories)}}}')


def read(folder: Path, image_count: int, way: str) -> dict[str, float]:
    """Read the file one way; return seconds and what the memory grew by, in MB."""
    names = [NAME, *(f"{number:08d}.jpg" for number in range(image_count))]
    files = [SourceFile(name, 1 << 20, None if name == NAME else "image/jpeg") for name in sorted(names)]
    tree = SourceTree(folder, files, "benchmark")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.perf_counter()
    if way == "json.load":
        with (folder / NAME).open("rb") as stream:
            label_count = len(json.load(stream)["annotations"])
    else:
        reading = coco.read(tree, Problems())
        label_count = sum(len(image.labels.boxes) for image in reading.images if image.labels)
    seconds = time.perf_counter() - began_s
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    return {"labels": label_count, "seconds": seconds, "grown_mb": grown_mb}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--annotations", type=int, default=800_000)
    parser.add_argument("--way", choices=["ours", "json.load"], help="read one way in the folder given (internal)")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(read(options.folder, options.images, options.way)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_file(Path(folder) / NAME, options.images, options.annotations)
        size_mb = (Path(folder) / NAME).stat().st_size / 1e6
        print(f"{size_mb:.0f} MB, {options.images} images, {options.annotations} annotations\n")
        print("| way | labels | s | memory grown, MB |\n|---|---|---|---|")
        for way in ("ours", "json.load"):
            command = [sys.executable, __file__, "--way", way, "--folder", folder, "--images", str(options.images)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"| {way} | {found['labels']} | {found['seconds']:.1f} | {found['grown_mb']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
