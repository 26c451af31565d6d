"""The sample clips: what stands in the labels is what can be seen, and the same seed gives the same bytes."""

import xml.etree.ElementTree as ET
from pathlib import Path

import av
import numpy as np
import pytest

from visionyard import events
from visionyard.data import sample, sample_scene
from visionyard.data.sample import LAYOUTS, SIZE_HW, make_sample
from visionyard.data.sample_labels import Sight, keyframes, sights
from visionyard.digests import digest_of_folder, sha256_bytes
from visionyard.errors import ConfigError, DataError


def _pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "detection"
    make_sample(folder, kind="digits-detection", clip_count=3, clip_s=1.5)
    return folder


def test_detection_clips_lie_beside_their_labels(detection: Path) -> None:
    names = sorted(path.name for path in detection.iterdir())
    assert names == [f"clip-0{number}.{suffix}" for number in (1, 2, 3) for suffix in ("mp4", "xml")]


def test_clips_are_h264_of_the_size_rate_and_length_asked_for(detection: Path) -> None:
    with av.open(str(detection / "clip-01.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.height, stream.width) == ("h264", *SIZE_HW)
        assert float(stream.average_rate) == 20
        assert stream.frames == 30


def test_labels_are_cvat_for_video(detection: Path) -> None:
    root = ET.parse(detection / "clip-02.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/source") == "clip-02.mp4"
    assert root.findtext("meta/task/size") == "30"
    assert root.findtext("meta/task/mode") == "interpolation"
    classes = [label.text for label in root.findall("meta/task/labels/label/name")]
    assert classes == list(LAYOUTS["digits-detection"].classes)
    tracks = root.findall("track")
    assert [track.get("id") for track in tracks] == [str(number) for number in range(len(tracks))]
    assert {track.get("label") for track in tracks} <= set(classes)
    for track in tracks:
        frames = [int(box.attrib["frame"]) for box in track.findall("box")]
        assert frames == sorted(set(frames))
        assert frames[0] >= 0
        assert frames[-1] < 30
        assert track.findall("box")[0].get("outside") == "0"


def test_boxes_lie_inside_the_picture(detection: Path) -> None:
    boxes = [box for path in sorted(detection.glob("*.xml")) for box in ET.parse(path).getroot().iter("box")]
    assert len(boxes) > 50
    for box in boxes:
        left, top, right, bottom = (float(box.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        assert 0 <= left < right <= SIZE_HW[1]
        assert 0 <= top < bottom <= SIZE_HW[0]


def test_same_seed_same_bytes_another_seed_others(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_sample(tmp_path / name, kind="digits-detection", clip_count=1, clip_s=0.5, seed=seed)
        digests.append(digest_of_folder(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]


def test_a_clip_does_not_depend_on_how_many_follow(detection: Path, tmp_path: Path) -> None:
    make_sample(tmp_path / "one", kind="digits-detection", clip_count=1, clip_s=1.5)
    for name in ("clip-01.mp4", "clip-01.xml"):
        assert (tmp_path / "one" / name).read_bytes() == (detection / name).read_bytes()


def test_classification_puts_clips_into_class_folders(tmp_path: Path) -> None:
    report = make_sample(tmp_path / "c", kind="digits-classification", clip_count=4, clip_s=0.2)
    files = sorted(path.relative_to(tmp_path / "c").as_posix() for path in (tmp_path / "c").rglob("*.*"))
    assert files == ["four/four-01.mp4", "seven/seven-01.mp4", "three/three-01.mp4", "three/three-02.mp4"]
    assert (report.clip_count, report.frame_count, report.track_count) == (4, 16, 0)
    assert report.size_bytes == sum((tmp_path / "c" / name).stat().st_size for name in files)


def _changes(path: Path) -> np.ndarray:
    pictures = np.stack(_pictures(path)).astype(np.float32)
    return np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))


def test_classification_clips_cut_every_half_second_and_detection_clips_never(detection: Path, tmp_path: Path) -> None:
    make_sample(tmp_path / "c", kind="digits-classification", clip_count=1, clip_s=1.5)
    steps = _changes(tmp_path / "c" / "three" / "three-01.mp4")
    assert sorted(np.argsort(steps)[-2:]) == [9, 19]
    assert steps[[9, 19]].min() > 2 * np.delete(steps, [9, 19]).max()
    steps = _changes(detection / "clip-01.mp4")
    assert steps.max() < 2 * np.median(steps)


def test_the_default_sample_has_enough_clips_of_each_class_to_hold_some_out() -> None:
    layout = LAYOUTS["digits-classification"]
    assert layout.clip_count % len(layout.classes) == 0
    assert layout.clip_count // len(layout.classes) >= 5


def test_scans_are_handed_out_once() -> None:
    scans = sample_scene.read_scans()
    stock = sample._ScanStock(seed=0)
    taken = [stock.take("seven").tobytes() for _ in range(len(scans["seven"]))]
    assert sorted(taken) == sorted(scan.tobytes() for scan in scans["seven"])
    with pytest.raises(ConfigError, match="no scan of seven is left"):
        stock.take("seven")


def test_scans_are_as_many_of_each_digit_as_published() -> None:
    """The counts stand in optdigits.names of the UCI repository, for the test part."""
    scans = sample_scene.read_scans()
    assert [len(scans[name]) for name in sample_scene.DIGIT_NAMES] == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for images in scans.values():
        assert images.shape[1:] == (8, 8)
        assert (images.min(), images.max()) == (0, 1)


@pytest.mark.parametrize("index", range(len(sample_scene.PHOTOGRAPHS)))
def test_every_photograph_covers_the_picture(index: int) -> None:
    photo = sample_scene.read_photograph(index, SIZE_HW)
    assert photo.dtype == np.uint8
    assert photo.shape[2] == 3
    assert photo.shape[0] >= 1.49 * SIZE_HW[0]
    assert photo.shape[1] >= 1.49 * SIZE_HW[1]


def test_clips_have_different_photographs(detection: Path) -> None:
    firsts = {sha256_bytes(_pictures(path)[0].tobytes()) for path in detection.glob("*.mp4")}
    assert len(firsts) == 3


def test_boxes_are_tight_about_the_drawn_digit() -> None:
    """Drawn alone on a flat ground, what differs from the ground is the digit; its shadow is no ink."""
    scan = sample_scene.read_scans()["four"][0]
    stamp = sample_scene.make_stamp(scan, (255, 255, 255))
    for angle_deg, scale in ((0.0, 1.0), (20.0, 1.3), (-35.0, 0.7)):
        actor = sample_scene.Actor("four", stamp, 0, 10, np.full((3, 2), 130.0), (scale, scale), angle_deg, 0.0)
        ground = np.full((2, *SIZE_HW, 3), 128, np.uint8)
        window = np.array([[160, 128, 320.0]] * 2)
        camera = sample_scene.Camera(ground[0], window, np.zeros((1,)), 1.0)
        picture = sample_scene.render(camera, [actor], 5, 10, SIZE_HW)
        mask = sample_scene.masks([actor], 5, SIZE_HW)
        (sight,) = sights(mask, [float(np.count_nonzero(stamp.mask > 0.5)) * scale**2])
        assert sight is not None
        # The ink is white: brighter than the ground. Its dark outline is 3 stamp pixels wide.
        rows, columns = np.nonzero(picture[..., 0] > 192)
        ink = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(np.array(sight.xyxy) - ink).max() <= 3 * scale + 2


def _mask(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((20, 20), bool)
    mask[max(top, 0) : bottom, max(left, 0) : right] = True
    return mask


@pytest.mark.parametrize(
    ("masks", "ink_px", "expected"),
    [
        pytest.param([None], [100], [None], id="not there"),
        pytest.param([_mask(0, 0, 0, 0)], [100], [None], id="outside"),
        pytest.param([_mask(2, 3, 12, 13)], [100], [Sight((2, 3, 12, 13), False)], id="whole"),
        pytest.param([_mask(-5, 0, 5, 10)], [100], [Sight((0, 0, 5, 10), False)], id="half inside"),
        pytest.param([_mask(-6, 0, 4, 10)], [100], [None], id="less than half inside"),
        pytest.param(
            [_mask(0, 0, 10, 10), _mask(6, 0, 16, 10)],
            [100, 100],
            [Sight((0, 0, 10, 10), True), Sight((6, 0, 16, 10), False)],
            id="covered by a later one",
        ),
        pytest.param(
            [_mask(0, 0, 10, 10), _mask(4, 0, 14, 10)], [100, 100], [None, Sight((4, 0, 14, 10), False)], id="hidden"
        ),
        pytest.param(
            [_mask(0, 0, 10, 10), _mask(9, 0, 19, 5)],
            [100, 50],
            [Sight((0, 0, 10, 10), False), Sight((9, 0, 19, 5), False)],
            id="hardly covered",
        ),
    ],
)
def test_sights(masks: list[np.ndarray | None], ink_px: list[float], expected: list[Sight | None]) -> None:
    assert sights(masks, ink_px) == expected


def _boxes(*values: float | None) -> list[Sight | None]:
    return [None if value is None else Sight((value, 0.0, value + 10, 10.0), False) for value in values]


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        pytest.param([], [], id="empty"),
        pytest.param(_boxes(None, None), [], id="never seen"),
        pytest.param(_boxes(3), [0], id="one frame"),
        pytest.param(_boxes(0, 2, 4, 6, 8), [0, 4], id="steady motion"),
        pytest.param(_boxes(0, 2, 4, 2, 0), [0, 2, 4], id="turn"),
        pytest.param(_boxes(None, 1, 2, None, None), [1, 2, 3], id="comes and goes"),
        pytest.param(_boxes(0, 1, None, 5, 6), [0, 1, 2, 3, 4], id="comes back"),
        pytest.param(
            [Sight((0, 0, 9, 9), False), Sight((0, 0, 9, 9), True), Sight((0, 0, 9, 9), True)],
            [0, 1, 2],
            id="occlusion changes",
        ),
    ],
)
def test_keyframes(track: list[Sight | None], expected: list[int]) -> None:
    assert keyframes(track) == expected


def test_keyframes_hold_any_track_within_the_tolerance() -> None:
    rng = np.random.default_rng(0)
    left = np.cumsum(rng.normal(0, 0.4, 60))
    chosen = keyframes(_boxes(*left))
    assert len(chosen) < 60
    assert np.abs(np.interp(np.arange(60), chosen, left[chosen]) - left).max() <= 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "letters"}, "kind = 'letters': no such sample; known: digits-detection, digits-classification"),
        ({"kind": "digits-detection", "clip_count": 0}, "clip_count = 0: expected 1 or more"),
        ({"kind": "digits-detection", "clip_s": 0.05}, "clip_s = 0.05: expected at least two frames, 0.1 s"),
        ({"kind": "digits-detection", "clip_s": float("nan")}, "clip_s = nan"),
        ({"kind": "digits-classification", "clip_count": 3, "clip_s": 400.0}, "no scan of .* is left"),
    ],
)
def test_wrong_arguments_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict, message: str
) -> None:
    monkeypatch.setattr(sample, "make_stamp", lambda *_: None)
    with pytest.raises(ConfigError, match=message):
        make_sample(tmp_path / "sample", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        make_sample(tmp_path, kind="digits-detection")
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("package", ["sklearn", "skimage"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr(sample_scene, "PHOTOGRAPHS", (("skimage", "data/coffee.png"),))
    real = sample_scene.find_spec
    monkeypatch.setattr(sample_scene, "find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(DataError, match=rf"{package}: not installed, .*visionyard\[all\]"):
        make_sample(tmp_path / "sample", kind="digits-detection", clip_count=1, clip_s=0.2)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_broken_photograph_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_scene, "PHOTOGRAPHS", (("skimage", "data/none.png"),))
    with pytest.raises(DataError, match=r"none\.png: expected a file that skimage carries"):
        sample_scene.read_photograph(0, SIZE_HW)
    monkeypatch.setattr(sample_scene, "PHOTOGRAPHS", (("skimage", "data/README.txt"),))
    with pytest.raises(DataError, match=r"README\.txt: expected a photograph, got another kind"):
        sample_scene.read_photograph(0, SIZE_HW)


def test_it_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONYARD_EVENTS", str(tmp_path / "events.jsonl"))
    with events.stage("sample"):
        make_sample(tmp_path / "sample", kind="digits-detection", clip_count=1, clip_s=0.2)
    told = [record for record in events.read_events(tmp_path / "events.jsonl") if record["kind"] == "progress"]
    assert (told[-1]["done"], told[-1]["total"], told[-1]["unit"]) == (1, 1, "clip")
