"""Planted near-duplicates found by the leak audit, false alarms, time, and how time grows.

    python benchmarks/leak_audit.py ../shared/data [--images 20000] [--pairs 1400] [--growth 10000,50000,100000,200000]

Pictures are made, for no set of that size is at hand: a third are pieces of 96 px of photographs (bccd, trashnet-mini),
each piece used once, warped and enlarged; a third the same with shapes, text and clothes (fashion-mnist) laid over;
a third clouds of noise with many such things. Noise, blur and exposure vary, sizes are 320x240 to 640x480, JPEG 80 to
95. Pieces without detail (plain background) are not used: a picture that shows nothing is like no other.

To each of the first pictures one altered copy is planted, of one kind in turn:

    neighbour   shift to 3 %, turn to 1 degree, zoom to 2 %, one eighth of the width moved, noise
    reencode    JPEG quality 20 to 60
    crop        70 to 92 % of each side, half of them stretched back to the old size
    flip        three of four left to right, else upside down
    brightness  gain 0.65 to 1.35, gamma 0.65 to 1.5, offset to 8 %
    rescale     0.35 to 1.8, sides stretched by up to 7 %
    overlay     a filled or clear box with text on 2 to 7 % of the picture

A clean item is one without a planted copy; a false alarm is a clean item in any confirmed pair. Growth: the search for
candidates alone, on the sketches of the pictures again and again, each time with other bits, so that the share of
images that are alike stays the same.
"""

import argparse
import gzip
import json
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from visionyard.data.leaks.candidates import candidate_pairs
from visionyard.data.leaks.near_duplicates import find_near_duplicates
from visionyard.data.leaks.sketches import Sketches, make_sketches
from visionyard.data.shards import Blob, ShardWriter, read_blob

TILE_PX = 96
SIZES_WH = ((320, 240), (384, 288), (400, 400), (480, 360), (360, 480), (640, 480))
KINDS = ("neighbour", "reencode", "crop", "flip", "brightness", "rescale", "overlay")


def tiles_of(shared: Path) -> list[np.ndarray]:
    """Return pieces of photographs with some detail, in an order drawn once."""
    files = sorted((shared / "bccd/JPEGImages").glob("*.jpg")) + sorted((shared / "trashnet-mini").rglob("*.jpg"))
    tiles = []
    for file in files:
        photo = cv2.imread(str(file))
        for top in range(0, photo.shape[0] - TILE_PX + 1, TILE_PX):
            for left in range(0, photo.shape[1] - TILE_PX + 1, TILE_PX):
                tile = photo[top : top + TILE_PX, left : left + TILE_PX]
                if has_detail(tile):
                    tiles.append(tile)
    return [tiles[place] for place in np.random.default_rng(0).permutation(len(tiles))]


def has_detail(tile: np.ndarray) -> bool:
    """Return whether a quarter of the piece has edges that a person sees."""
    grey = cv2.cvtColor(tile, cv2.COLOR_BGR2GRAY).astype(np.float32)
    detail = np.abs(cv2.GaussianBlur(grey, (0, 0), 1) - cv2.GaussianBlur(grey, (0, 0), 6))
    return bool((detail > 6).mean() > 0.25)


def clothes_of(shared: Path) -> np.ndarray:
    """Return (N, 28, 28) uint8."""
    file = next((shared / "fashion-mnist").rglob("train-images*"))
    return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)


def clouds(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return noise of many scales."""
    fall = rng.uniform(0.6, 1.4)
    layers = (
        cv2.resize(
            rng.normal(size=(max(2, cells * height // width + 1), cells + 1, 3)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        / cells**fall
        for cells in (2, 4, 8, 16, 32, 64)
    )
    picture = sum(layers, np.zeros((height, width, 3), np.float32))
    picture = (picture - picture.min()) / (np.ptp(picture) + 1e-6)
    return (picture * rng.uniform(120, 255)).clip(0, 255).astype(np.uint8)


def draw_things(rng: np.random.Generator, picture: np.ndarray, count: int, clothes: np.ndarray) -> None:
    """Draw ellipses, polygons, lines, text and clothes."""
    height, width = picture.shape[:2]
    for _ in range(count):
        colour = tuple(map(int, rng.integers(0, 256, 3)))
        x, y, radius = int(rng.integers(0, width)), int(rng.integers(0, height)), int(rng.uniform(0.04, 0.22) * width)
        kind = rng.integers(0, 6)
        if kind == 0:
            axes = (radius, int(radius * rng.uniform(0.3, 1)))
            cv2.ellipse(picture, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        elif kind == 1:
            cv2.fillPoly(picture, [np.int32(rng.normal(0, radius, (rng.integers(3, 8), 2)) + np.array([x, y]))], colour)
        elif kind == 2:
            end = (int(x + rng.normal(0, 2 * radius)), int(y + rng.normal(0, 2 * radius)))
            cv2.line(picture, (x, y), end, colour, int(rng.integers(1, 12)))
        elif kind == 3:
            text, face = "".join(map(chr, rng.integers(48, 90, rng.integers(2, 7)))), int(rng.integers(0, 4))
            cv2.putText(picture, text, (x - radius, y), face, rng.uniform(0.5, 1.6), colour, int(rng.integers(1, 4)))
        else:
            side = max(16, 2 * radius)
            garment = cv2.resize(clothes[rng.integers(len(clothes))], (side, side), interpolation=cv2.INTER_CUBIC)
            top, left = max(0, min(height - side, y - radius)), max(0, min(width - side, x - radius))
            region = picture[top : top + side, left : left + side]
            garment = garment[: region.shape[0], : region.shape[1], None]
            region[:] = np.where(garment > 20, garment * (np.array(colour) / 255), region)


def make_picture(number: int, tiles: list[np.ndarray], clothes: np.ndarray) -> np.ndarray:
    """Return picture `number`, (H, W, 3) uint8."""
    rng = np.random.default_rng([1, number])
    width, height = SIZES_WH[rng.integers(len(SIZES_WH))]
    place = number // 3 * 2 + number % 3
    if number % 3 < 2 and place < len(tiles):
        tile = np.ascontiguousarray(np.rot90(tiles[place], rng.integers(4)))
        corners = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])
        source = (corners + rng.uniform(-0.04, 0.04, (4, 2)).astype(np.float32)) * TILE_PX
        warp = cv2.getPerspectiveTransform(source, corners * np.float32([width, height]))
        picture = cv2.warpPerspective(tile, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        if number % 3:
            draw_things(rng, picture, int(rng.integers(1, 6)), clothes)
    else:
        picture = clouds(rng, width, height)
        draw_things(rng, picture, int(rng.integers(3, 14)), clothes)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 2))
    noise = rng.normal(0, rng.uniform(0, 6), picture.shape)
    return np.clip(picture.astype(np.float32) * rng.uniform(0.6, 1.2) + noise, 0, 255).astype(np.uint8)


def neighbour(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Return the next frame of a camera held by hand."""
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-1, 1), rng.uniform(0.98, 1.02))
    turn[:, 2] += rng.uniform(-0.03, 0.03, 2) * [width, height]
    moved = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    side = width // 8
    x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
    to_x, to_y = np.clip(np.array([x, y]) + rng.integers(-15, 16, 2), 0, [width - side, height - side])
    moved[to_y : to_y + side, to_x : to_x + side] = moved[y : y + side, x : x + side].copy()
    return np.clip(moved + rng.normal(0, 4, moved.shape), 0, 255).astype(np.uint8)


def crop(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Return a part, sometimes stretched back."""
    height, width = picture.shape[:2]
    new_width, new_height = (np.array([width, height]) * rng.uniform(0.7, 0.92, 2)).astype(int)
    left, top = rng.integers(0, width - new_width + 1), rng.integers(0, height - new_height + 1)
    part = picture[top : top + new_height, left : left + new_width]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) if rng.random() < 0.5 else part


def flip(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Return a mirror image, or the picture upside down."""
    return picture[:, ::-1] if rng.random() < 0.75 else picture[::-1]


def brightness(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Return another exposure."""
    light = np.clip(picture / 255 * rng.uniform(0.65, 1.35) + rng.uniform(-0.08, 0.08), 0, 1)
    return (255 * light ** rng.uniform(0.65, 1.5)).astype(np.uint8)


def rescale(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Return another size."""
    height, width = picture.shape[:2]
    scale = rng.uniform(0.35, 1.8)
    size_wh = (int(width * scale), int(height * scale * rng.uniform(0.93, 1.07)))
    return cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def overlay(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Return the picture with a caption."""
    height, width = picture.shape[:2]
    area, shape = rng.uniform(0.02, 0.07) * width * height, rng.uniform(0.3, 4)
    box_width, box_height = min(width, int((area * shape) ** 0.5)), min(height, int((area / shape) ** 0.5))
    left, top = int(rng.integers(0, width - box_width + 1)), int(rng.integers(0, height - box_height + 1))
    marked = picture.copy()
    if rng.random() < 0.5:
        marked[top : top + box_height, left : left + box_width] = rng.integers(0, 256, 3)
    colour = tuple(map(int, rng.integers(0, 256, 3)))
    where = (left, int(top + box_height * 0.7))
    cv2.putText(marked, "CAM 3 12:30", where, 0, max(0.3, box_height / 60), colour, 1)
    return marked


ALTERED: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "neighbour": neighbour,
    "reencode": lambda _, picture: picture,
    "crop": crop,
    "flip": flip,
    "brightness": brightness,
    "rescale": rescale,
    "overlay": overlay,
}


def write_set(shared: Path, folder: Path, image_count: int, pair_count: int) -> tuple[list[Blob], dict]:
    """Write the pictures to shards; return where they lie, and the planted pairs with their kinds."""
    tiles, clothes = tiles_of(shared), clothes_of(shared)
    blobs, copies = [], []
    with ShardWriter(folder, "pictures") as shards:
        for number in range(image_count - pair_count):
            rng = np.random.default_rng([2, number])
            picture = make_picture(number, tiles, clothes)
            data = encoded(picture, int(rng.integers(80, 96)))
            blobs.append(shards.add(f"{number}.jpg", data))
            if number < pair_count:
                kind = KINDS[number % len(KINDS)]
                quality = int(rng.integers(20, 60) if kind == "reencode" else rng.integers(80, 96))
                copies.append((kind, encoded(ALTERED[kind](rng, picture), quality)))
        planted = {}
        for number, (kind, data) in enumerate(copies):
            planted[number, len(blobs)] = kind
            blobs.append(shards.add(f"{number}-{kind}.jpg", data))
    return blobs, planted


def encoded(picture: np.ndarray, quality: int) -> bytes:
    """Return a JPEG file."""
    return cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def repeated(sketches: Sketches, count: int) -> Sketches:
    """Return `count` sketches: these again and again, each time with other bits, so that no two times are alike.

    The share of images that have a near-duplicate thus stays what it is, whatever the count.
    """
    rng = np.random.default_rng(0)
    many = Sketches.room_for(count)
    for start in range(0, count, sketches.count):
        here = slice(start, min(start + sketches.count, count))
        size = here.stop - start
        for name in ("points", "corner_counts", "has_structure"):
            getattr(many, name)[here] = getattr(sketches, name)[:size]
        for name in ("prints", "descriptors"):
            values = getattr(sketches, name)[:size]
            getattr(many, name)[here] = values ^ rng.integers(0, 256, values.shape[-1], dtype=np.uint8)
    return many


def main() -> None:
    """Measure and print, last a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=1400)
    parser.add_argument("--growth", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        blobs, planted = write_set(options.shared, Path(scratch), options.images, options.pairs)
        began, began_cpu = time.perf_counter(), time.process_time()
        sketches = make_sketches([partial(read_blob, Path(scratch), blob) for blob in blobs])
        sketched = time.perf_counter()
        found = find_near_duplicates(sketches, np.arange(len(blobs)))
        ended, cpu_s = time.perf_counter(), time.process_time() - began_cpu
    pairs = set(map(tuple, found.pairs.tolist()))
    touched = {position for pair in planted for position in pair}
    alarms = {position for pair in pairs for position in pair} - touched
    kinds, hits = Counter(planted.values()), Counter(kind for pair, kind in planted.items() if pair in pairs)
    result = {
        "images": len(blobs),
        "planted": len(planted),
        "recall": round(sum(hits.values()) / len(planted), 4),
        "recall_by_kind": {kind: f"{hits[kind]}/{kinds[kind]}" for kind in KINDS},
        "clean_items": len(blobs) - len(touched),
        "false_alarms": len(alarms),
        "false_alarm_share": round(len(alarms) / (len(blobs) - len(touched)), 4),
        "candidates": found.candidate_count,
        "sketching_s": round(sketched - began, 1),
        "audit_s": round(ended - began, 1),
        "audit_cpu_s": round(cpu_s, 1),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(result, indent=1))
    growth = {}
    for count in map(int, filter(None, options.growth.split(","))):
        many = repeated(sketches, count)
        began = time.process_time()
        candidate_pairs(many)
        growth[count] = round(time.process_time() - began, 1)
        print(f"{count} images: {growth[count]} s of one core to find candidates", flush=True)
    print(json.dumps({**result, "growth_cpu_s": growth}))


if __name__ == "__main__":
    main()
