"""Frames and images are hidden before they are written; every stage after that sees nothing else."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from kfp import dsl
from PIL import Image

from visionyard import events
from visionyard.anonymization import open_anonymizing
from visionyard.components.extract_frames import extract_frames as extract_component
from visionyard.components.ingest_dataset import ingest_dataset
from visionyard.components.prepare_dataset import prepare_dataset
from visionyard.config.run_config import AnonymizeConfig
from visionyard.data.artifacts import IMAGES, SHARDS, read_manifest
from visionyard.data.dataset import DATASET
from visionyard.data.extract_frames import FramesReport, extract_frames
from visionyard.data.ingest import ingest
from visionyard.data.items import Item, read_json_lines
from visionyard.data.media import stored_image
from visionyard.data.shards import read_blob
from visionyard.digests import digest_of_folder
from visionyard.errors import ConfigError
from visionyard.events import EVENTS_VARIABLE, read_events
from visionyard.transforms import decode_image
from visionyard.video.records import KeptFrame

# Of neighbouring rows of the red square: as drawn (and coded), and once hidden.
SHARP, SMOOTH = 12.0, 4.0


def write_clip(path: Path, images: list[np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4", "g": "1"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def roughness(image: np.ndarray) -> float:
    """Return how much the rows of the red square differ from their neighbours."""
    return float(np.abs(np.diff(image[44:76, 84:116, 0].astype(int), axis=0)).mean())


def images_in(folder: Path) -> dict[str, np.ndarray]:
    items = [Item.from_json(values) for values in read_json_lines(folder / IMAGES)]
    return {item.key: decode_image(read_blob(folder / SHARDS, item.blob)) for item in items}


@pytest.fixture
def clip_source(tmp_path: Path, textured: Callable[..., np.ndarray]) -> Path:
    """Two clips of one class each; the second shows nothing red."""
    grey = [np.full((160, 320, 3), 90 + number, np.uint8) for number in range(10)]
    write_clip(tmp_path / "data" / "red" / "a.mkv", [textured(number) for number in range(10)])
    write_clip(tmp_path / "data" / "grey" / "b.mkv", grey)
    return tmp_path / "data"


def extract(sources: Path, target: Path, model: Path | None, **changes: Any) -> FramesReport:
    config = AnonymizeConfig.model_validate({"model": str(model or ""), **changes})
    with open_anonymizing(config) as retouching:
        return extract_frames(sources, target, rate_hz=5.0, retouching=retouching)


def test_frames_are_hidden_counted_and_told(clip_source: Path, red_detector: Path, tmp_path: Path) -> None:
    ingest(str(clip_source), tmp_path / "sources")
    plain = extract(tmp_path / "sources", tmp_path / "plain", None)
    report = extract(tmp_path / "sources", tmp_path / "hidden", red_detector)
    assert (plain.anonymized_count, plain.hidden_count) == (0, 0)
    assert report.frame_count == plain.frame_count == 10
    assert report.anonymized_count == 5 and report.hidden_count >= 10
    before, after = images_in(tmp_path / "plain"), images_in(tmp_path / "hidden")
    for key, image in after.items():
        if key.startswith("red"):
            assert roughness(before[key]) > SHARP > SMOOTH > roughness(image)
        else:
            np.testing.assert_array_equal(before[key], image)
    told = read_manifest(tmp_path / "hidden", "frames")["anonymization"]
    assert (told["image_count"], told["region_count"]) == (5, report.hidden_count)
    assert (told["model"], told["method"], told["classes"]) == ("red-squares", "blur", ["red"])
    assert "anonymization" not in read_manifest(tmp_path / "plain", "frames")


def test_frames_are_the_same_each_time(clip_source: Path, red_detector: Path, tmp_path: Path) -> None:
    ingest(str(clip_source), tmp_path / "sources")
    extract(tmp_path / "sources", tmp_path / "one", red_detector)
    extract(tmp_path / "sources", tmp_path / "two", red_detector)
    assert digest_of_folder(tmp_path / "one") == digest_of_folder(tmp_path / "two")


def test_no_frame_is_ever_written_as_it_was(
    clip_source: Path, red_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The scratch file of the decoder process, as the packing sees it, holds the hidden frames already.
    from visionyard.data import extract_frames as module

    seen: list[float] = []

    class Looking(module.FramePacker):
        def add(self, number: int, clip: Any, key: str, frames: tuple[KeptFrame, ...]) -> None:
            data = self._results.images_path(number).read_bytes()
            written = [data[frame.offset : frame.offset + frame.size] for frame in frames if key.startswith("red")]
            seen.extend(roughness(decode_image(jpeg)) for jpeg in written)
            super().add(number, clip, key, frames)

    monkeypatch.setattr(module, "FramePacker", Looking)
    ingest(str(clip_source), tmp_path / "sources")
    extract(tmp_path / "sources", tmp_path / "hidden", red_detector)
    assert len(seen) == 5 and max(seen) < SMOOTH


def test_a_decoder_process_that_hides_nothing_is_refused(clip_source: Path, red_detector: Path, tmp_path: Path) -> None:
    ingest(str(clip_source), tmp_path / "sources")
    with open_anonymizing(AnonymizeConfig(model=str(red_detector))) as retouching:
        command = ["python", "-m", "visionyard.video._child", "1"]
        with pytest.raises(ConfigError, match="another decoder process would not hide"):
            extract_frames(
                *(tmp_path / "sources", tmp_path / "h"), rate_hz=5.0, retouching=retouching, decoder_command=command
            )


def test_a_try_with_other_settings_is_not_continued(
    clip_source: Path, red_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionyard.data import extract_frames as module

    ingest(str(clip_source), tmp_path / "sources")

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "_finish", die)
        with pytest.raises(KeyboardInterrupt):
            extract(tmp_path / "sources", tmp_path / "hidden", None)
    extract(tmp_path / "sources", tmp_path / "hidden", red_detector)
    assert all(roughness(image) < SMOOTH for key, image in images_in(tmp_path / "hidden").items() if key[:3] == "red")


def test_sharpness_is_judged_before_anything_is_hidden(
    red_detector: Path, textured: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    # The square fills most of the picture in half of the frames: hidden, they are flat.
    flat = np.full((160, 320, 3), 90, np.uint8)
    images = []
    for number in range(10):
        image = textured(number, left=0, top=0, side=160)
        if number % 2:
            image[:, 160:] = 90
        images.append(np.where(image > 0, image, flat) if number < 0 else image)
    write_clip(tmp_path / "data" / "red" / "a.mkv", images)
    ingest(str(tmp_path / "data"), tmp_path / "sources")
    with open_anonymizing(AnonymizeConfig(model=str(red_detector))) as retouching:
        hidden = extract_frames(
            tmp_path / "sources", tmp_path / "h", rate_hz=10.0, drop_blurred=True, retouching=retouching
        )
    plain = extract_frames(tmp_path / "sources", tmp_path / "p", rate_hz=10.0, drop_blurred=True)
    assert (hidden.blurred_count, hidden.frame_count) == (plain.blurred_count, plain.frame_count)


def test_still_images_are_hidden_before_they_are_stored(
    red_detector: Path, textured: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    for name, image in (("red", textured()), ("grey", np.full((160, 320, 3), 90, np.uint8))):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "data" / name / "1.png")
        Image.fromarray(image).save(tmp_path / "data" / name / "2.jpg", quality=98)
        Image.fromarray(image).save(tmp_path / "data" / name / "3.webp", lossless=True)
    with open_anonymizing(AnonymizeConfig(model=str(red_detector))) as retouching:
        report = ingest(str(tmp_path / "data"), tmp_path / "sources", retouching=retouching)
    assert (report.image_count, report.anonymized_count) == (6, 3)
    assert report.figures()["hidden_count"] == report.hidden_count >= 6
    stored = images_in(tmp_path / "sources")
    assert {key for key, image in stored.items() if roughness(image) > SMOOTH} == set()
    # An image in which nothing was found keeps its bytes.
    items = {item.key: item for item in map(Item.from_json, read_json_lines(tmp_path / "sources" / IMAGES))}
    data = read_blob(tmp_path / "sources" / SHARDS, items["grey-2"].blob)
    assert data == (tmp_path / "data" / "grey" / "2.jpg").read_bytes()
    assert [items[f"red-{n}"].blob.shard for n in (1, 2, 3)]
    told = read_manifest(tmp_path / "sources", "sources")["anonymization"]
    assert (told["image_count"], told["region_count"]) == (3, report.hidden_count)


def test_what_a_file_holds_beside_its_pixels_is_left_behind(textured: Callable[..., np.ndarray]) -> None:
    exif = Image.Exif()
    exif[0x010E] = "the face in the small picture"
    stream = io.BytesIO()
    Image.fromarray(textured()).save(stream, "JPEG", exif=exif)
    kept = stored_image(stream.getvalue())
    assert b"small picture" in kept.data
    hidden = stored_image(stream.getvalue(), lambda image: (np.zeros_like(image), 1))
    assert b"small picture" not in hidden.data
    assert (hidden.extension, hidden.is_reencoded, hidden.hidden_count) == (".jpg", True, 1)
    assert decode_image(hidden.data).max() == 0


def test_a_detector_that_finds_nothing_is_warned_of(
    red_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "events.jsonl"
    monkeypatch.setenv(EVENTS_VARIABLE, str(log))
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(np.full((50, 50, 3), 90, np.uint8)).save(tmp_path / "data" / name / "1.png")
    with events.stage("ingest"), open_anonymizing(AnonymizeConfig(model=str(red_detector))) as retouching:
        ingest(str(tmp_path / "data"), tmp_path / "sources", retouching=retouching)
    warnings = [event["message"] for event in read_events(log) if event["kind"] == "warning"]
    assert any("nothing was hidden in any of 2 images" in message for message in warnings)


def test_the_components_hide_and_the_version_says_so(
    red_detector: Path, textured: Callable[..., np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
    for name, is_red in (("red", True), ("grey", False)):
        for number in range(3):
            seeds = range(10 * number, 10 * number + 4)
            images = [textured(seed) if is_red else textured(seed)[:, ::-1] // 2 for seed in seeds]
            write_clip(tmp_path / "data" / name / f"{number}.mkv", images)
    sources, frames, dataset = (dsl.Dataset(uri=str(tmp_path / name)) for name in ("sources", "frames", "dataset"))
    # As KFP hands them on.
    hiding: dict[str, Any] = {
        "anonymize_model": str(red_detector),
        "anonymize_classes": ["red"],
        "anonymize_method": "fill",
    }
    ingest_dataset.python_func(sources=sources, source=str(tmp_path / "data"), **hiding)
    extract_component.python_func(sources=sources, frames=frames, rate_hz=5.0, **hiding)
    prepare_dataset.python_func(sources=sources, frames=frames, dataset=dataset)
    info = json.loads((tmp_path / "dataset" / DATASET).read_text())
    told = info["anonymization"]["frames"]
    assert told["method"] == "fill" and told["image_count"] >= 6 and told["region_count"] >= 12
    finished = {
        event["stage"]: event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "stage_finished"
    }
    assert finished["extract_frames"]["figures"]["hidden"] == told["region_count"]


def test_a_face_in_a_real_clip_is_hidden(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Linzaer's face detector (MIT) on a clip of a person who signs: once hidden, it finds no face."""
    from visionyard.export.import_spec import ImportSpec
    from visionyard.export.importing import import_model
    from visionyard.inference.predictor import Predictor
    from visionyard.video.streaming import stream_frames

    spec = ImportSpec.model_validate(
        {
            "name": "ultraface",
            "task": "detection",
            "classes": ["face"],
            "licence": "MIT",
            "input": "input",
            "outputs": ["scores", "boxes"],
            "preprocessing": {
                "resize": "stretch",
                "size_hw": [240, 320],
                "interpolation": "bilinear",
                "scale": 1.0,
                "mean": [127, 127, 127],
                "std": [128, 128, 128],
            },
            "postprocessing": {"layout": "ssd", "confidence_threshold": 0.7, "iou_threshold": 0.3},
        }
    )
    model = shared_data("models") / "ultraface" / "version-RFB-320.onnx"
    bundle = import_model(model, spec, tmp_path / "bundle").bundle
    clip = shared_data("videos") / "signing" / "book.mkv"
    frame = next(stream_frames(clip, 1.0)).image
    with Predictor.from_bundle(bundle) as predictor:
        (found,) = predictor.predict([frame], confidence_threshold=0.5)
        assert len(found) == 1
        for method in ("blur", "pixelate", "fill"):
            with open_anonymizing(AnonymizeConfig(model=str(bundle), method=method)) as retouching:
                assert retouching is not None
                hidden, count = retouching.retouch(frame)
            assert count >= 1
            (left,) = predictor.predict([hidden], confidence_threshold=0.5)
            assert len(left) == 0, method
