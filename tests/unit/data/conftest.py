"""Builders of the artifacts that pass between the data stages."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.source_files import write_photos_by_class
from visionyard.data.artifacts import IMAGES, PROBLEMS, SHARDS, write_manifest
from visionyard.data.class_masks import encode_class_mask, ids_present
from visionyard.data.items import Box, Item, Problem, Split, write_json_lines
from visionyard.data.shards import ShardWriter
from visionyard.geometry import Mask, Xyxy


def encode(pixels: np.ndarray, image_format: str = "JPEG", **options: Any) -> bytes:
    """Return pixels, (H, W, 3) or (H, W) uint8, as an encoded file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, image_format, **options)
    return stream.getvalue()


def picture(seed: int, *, size_hw: tuple[int, int] = (48, 64), noise_seed: int | None = None) -> np.ndarray:
    """Return a smooth random picture of its own for each seed, (H, W, 3) uint8; `noise_seed` changes it a little."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((size_hw[1], size_hw[0]), Image.Resampling.BICUBIC)
    pixels = np.asarray(smooth, dtype=np.int16)
    if noise_seed is not None:
        pixels = pixels + np.random.default_rng(noise_seed).integers(-2, 3, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


@dataclass
class ImageSpec:
    """One image of an artifact to build; the picture follows from `seed`.

    `masks` has one for each of `boxes`, `crowds` the places of those that are crowds; `semantic_mask` holds class ids.
    """

    key: str
    group: str = ""
    class_name: str | None = None
    boxes: tuple[tuple[str, Xyxy], ...] | None = None
    seed: int | None = None
    timestamp_s: float | None = None
    published_split: Split | None = None
    data: bytes | None = None
    source: str = ""
    size_hw: tuple[int, int] = (48, 64)
    masks: tuple[Mask | None, ...] = ()
    crowds: tuple[int, ...] = ()
    semantic_mask: np.ndarray | bytes | None = None

    def labelled_boxes(self) -> tuple[Box, ...] | None:
        if self.boxes is None:
            return None
        masks = self.masks or (None,) * len(self.boxes)
        return tuple(
            Box(name, xyxy, mask, is_crowd=place in self.crowds)
            for place, ((name, xyxy), mask) in enumerate(zip(self.boxes, masks, strict=True))
        )

    def encoded(self) -> bytes:
        if self.data is not None:
            return self.data
        seed = int(sha256(self.key.encode()).hexdigest()[:8], 16) if self.seed is None else self.seed
        return encode(picture(seed, size_hw=self.size_hw))


@dataclass
class Artifacts:
    """Folders of both input stages."""

    root: Path
    sources: Path = field(init=False)
    frames: Path = field(init=False)

    def __post_init__(self) -> None:
        self.sources, self.frames = self.root / "sources", self.root / "frames"


def write_artifact(
    folder: Path,
    artifact: str,
    specs: Iterable[ImageSpec],
    *,
    problems: Iterable[Problem] = (),
    **manifest: Any,
) -> None:
    """Write a `sources` or `frames` folder with these images."""
    folder.mkdir(parents=True)
    items = []
    with ShardWriter(folder / SHARDS, "images") as shards:
        for spec in specs:
            data = spec.encoded()
            label = spec.semantic_mask
            mask = encode_class_mask(label) if isinstance(label, np.ndarray) else label
            seen = ids_present(label) if isinstance(label, np.ndarray) else ()
            listed = manifest.get("classes", ())
            items.append(
                Item(
                    key=spec.key,
                    source=spec.source or (f"{spec.group}.mp4" if spec.timestamp_s is not None else f"{spec.key}.jpg"),
                    group=spec.group or spec.key,
                    sha256=sha256(data).hexdigest(),
                    width=spec.size_hw[1],
                    height=spec.size_hw[0],
                    blob=shards.add(f"{spec.key}.jpg", data),
                    class_name=spec.class_name,
                    boxes=spec.labelled_boxes(),
                    timestamp_s=spec.timestamp_s,
                    published_split=spec.published_split,
                    mask_blob=shards.add(f"{spec.key}.mask.png", mask) if mask else None,
                    mask_sha256=sha256(mask).hexdigest() if mask else None,
                    mask_classes=tuple(listed[class_id] for class_id in seen if class_id < len(listed)),
                )
            )
    write_json_lines(folder / IMAGES, (item.to_json() for item in items))
    write_json_lines(folder / PROBLEMS, (problem.to_json() for problem in problems))
    write_manifest(folder, artifact, manifest)


ArtifactBuilder = Callable[..., Artifacts]


@pytest.fixture
def build_artifacts(tmp_path: Path) -> ArtifactBuilder:
    """Return a function that writes `sources` and `frames` from `ImageSpec`s.

    Its arguments: `images` and `frames` (specs), `classes` (of the sources' manifest), `name` (in `tmp_path`),
    `problems` (of the sources), `frame_problems`.
    """

    def build(
        images: Iterable[ImageSpec] = (),
        *,
        frames: Iterable[ImageSpec] = (),
        classes: Iterable[str] | None = None,
        name: str = "input",
        problems: Iterable[Problem] = (),
        frame_problems: Iterable[Problem] = (),
    ) -> Artifacts:
        artifacts = Artifacts(tmp_path / name)
        listed = {} if classes is None else {"classes": list(classes)}
        write_artifact(artifacts.sources, "sources", images, problems=problems, **listed)
        write_artifact(artifacts.frames, "frames", frames, problems=frame_problems)
        return artifacts

    return build


@pytest.fixture
def by_class(tmp_path: Path) -> str:
    """Return a folder of three photos of two classes."""
    return write_photos_by_class(tmp_path / "photos")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return where ingest shall write."""
    return tmp_path / "out" / "sources"


@pytest.fixture
def image_spec() -> type[ImageSpec]:
    """Return the class of the images that `build_artifacts` takes."""
    return ImageSpec


@pytest.fixture
def encode_image() -> Callable[..., bytes]:
    """Return a function from pixels to an encoded file."""
    return encode


@pytest.fixture
def random_picture() -> Callable[..., np.ndarray]:
    """Return a function from a seed to a smooth random picture."""
    return picture


@pytest.fixture
def clips() -> Callable[..., list[ImageSpec]]:
    """Return a function from (class, clip count, frames a clip) to the frames of such clips."""

    def make(class_name: str, clip_count: int, frame_count: int = 4) -> list[ImageSpec]:
        return [
            ImageSpec(
                f"{class_name}-{clip}-{frame}",
                group=f"{class_name}/{clip}",
                class_name=class_name,
                timestamp_s=frame * 0.5,
            )
            for clip in range(clip_count)
            for frame in range(frame_count)
        ]

    return make
