"""CVAT for video 1.1."""

from typing import Any

import pytest

from visionyard.data.formats import cvat_video
from visionyard.data.items import Problems, TrackShape
from visionyard.errors import DataError


def box(frame: object, xyxy: tuple[object, ...] = (1, 2, 30, 40), **flags: object) -> str:
    corners = " ".join(f'{name}="{value}"' for name, value in zip(("xtl", "ytl", "xbr", "ybr"), xyxy))
    more = " ".join(f'{name}="{value}"' for name, value in flags.items())
    return f'<box frame="{frame}" {corners} keyframe="1" occluded="0" z_order="0" {more}/>'


def track(*shapes: str, label: str = "car") -> str:
    return f'<track id="7" label="{label}" source="manual">{"".join(shapes)}</track>'


def xml(*tracks: str, source: str = "clip.mp4", kind: str = "task", labels: str = "car,bus") -> str:
    names = "".join(f"<label><name>{name}</name><attributes/></label>" for name in labels.split(",") if name)
    size = "<original_size><width>100</width><height>50</height></original_size>"
    head = f"<{kind}><name>t</name><labels>{names}</labels>{size}<source>{source}</source></{kind}>"
    return f"<annotations><version>1.1</version><meta>{head}</meta>{''.join(tracks)}</annotations>"


def read(scan: Any, files: dict[str, str]) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    problems = Problems()
    reading = cvat_video.read(scan(files), problems)
    clips = {clip.file.name: clip for clip in reading.clips}
    assert reading.item_count == len(clips)
    return clips, [(problem.code, problem.file, problem.item) for problem in problems.found]


def test_tracks_with_keyframes_and_outside(scan: Any) -> None:
    shapes = (box(10, outside=1), box(0, (1, 2, 30, 40.5), outside=0), box(4, outside=0))
    clips, problems = read(scan, {"clip.mp4": "", "clip.xml": xml(track(*shapes), track(box(3), label="bus"))})
    tracks = clips["clip.mp4"].tracks
    assert [each.class_name for each in tracks] == ["car", "bus"]
    assert tracks[0].shapes == (
        TrackShape(0, (1, 2, 30, 40.5)),
        TrackShape(4, (1, 2, 30, 40)),
        TrackShape(10, (1, 2, 30, 40), is_outside=True),
    )
    assert problems == []


@pytest.mark.parametrize(
    ("clip", "label", "content"),
    [
        pytest.param("a/clip.mp4", "labels/annotations.xml", xml(track(box(0))), id="by its source"),
        pytest.param("clip.mp4", "x.xml", xml(track(box(0)), source="C:\\data\\clip.mp4"), id="by a path of Windows"),
        pytest.param("x.mp4", "x.xml", xml(track(box(0)), source="gone.mp4"), id="by the name of the XML"),
        pytest.param("x.mp4", "x.xml", xml(track(box(0)), source=""), id="without a source"),
        pytest.param("clip.mp4", "x.xml", xml(track(box(0)), kind="job"), id="export of a job"),
        pytest.param("x.mp4", "x.xml", f"<annotations>{track(box(0))}</annotations>", id="without meta"),
    ],
)
def test_which_clip_a_file_is_for(scan: Any, clip: str, label: str, content: str) -> None:
    clips, problems = read(scan, {clip: "", "other.mp4": "", label: content})
    assert len(clips[clip].tracks) == 1
    assert (clips["other.mp4"].tracks, problems) == (None, [("clip_without_labels", "other.mp4", "")])


def test_clips_of_one_name_take_the_file_beside_them(scan: Any) -> None:
    files = {f"{d}/clip.mp4": "" for d in "ab"}
    files |= {f"{d}/annotations.xml": xml(track(box(i))) for i, d in enumerate("ab")}
    clips, problems = read(scan, files)
    assert [clips[f"{d}/clip.mp4"].tracks[0].shapes[0].frame_index for d in "ab"] == [0, 1]
    assert problems == []


def test_files_without_their_clip(scan: Any) -> None:
    files = {
        "clip.mp4": "",
        "a.xml": xml(track(box(0))),
        "b.xml": xml(),
        "c.xml": xml(source="gone.mp4"),
        "d.xml": "<x/>",
    }
    clips, problems = read(scan, {**files, "e.xml": "<annotations>"})
    assert len(clips["clip.mp4"].tracks) == 1
    assert problems == [
        ("clip_labelled_twice", "b.xml", ""),
        ("labels_without_clip", "c.xml", ""),
        ("unreadable_labels", "e.xml", ""),
    ]


def test_a_clip_in_which_nothing_is(scan: Any) -> None:
    clips, problems = read(scan, {"clip.mp4": "", "clip.xml": xml()})
    assert (clips["clip.mp4"].tracks, problems) == ((), [])


@pytest.mark.parametrize(
    ("bad", "code", "item", "kept"),
    [
        pytest.param(box(5, ("nan", 2, 3, 4)), "box_not_a_number", "track 7, frame 5", [0], id="NaN"),
        pytest.param(
            box(5, ("inf", 2, 3, 4), outside=1), "box_not_a_number", "track 7, frame 5", [0], id="NaN outside"
        ),
        pytest.param(box(5, (3, 2, 3, 4)), "box_without_area", "track 7, frame 5", [0], id="no area"),
        pytest.param(box(5, (90, 2, 130, 4)), "box_outside_image", "track 7, frame 5", [0, 5], id="clipped"),
        pytest.param(box(5, (110, 2, 130, 4)), "box_outside_image", "track 7, frame 5", [0, 5], id="left the picture"),
        pytest.param(box("x"), "malformed_box", "track 7, frame x", [0], id="no frame"),
        pytest.param(box(-1), "malformed_box", "track 7, frame -1", [0], id="frame below 0"),
        pytest.param(box(5, (1, 2, 3)), "malformed_box", "track 7, frame 5", [0], id="a corner missing"),
        pytest.param(box(0, (9, 9, 19, 19)), "frame_labelled_twice", "track 7, frame 0", [0], id="two boxes a frame"),
        pytest.param('<polygon frame="5"/>', "shape_not_supported", "track 7", [0], id="polygon"),
    ],
)
def test_faulty_shapes(scan: Any, bad: str, code: str, item: str, kept: list[int]) -> None:
    clips, problems = read(scan, {"clip.mp4": "", "clip.xml": xml(track(box(0), bad))})
    assert problems == [(code, "clip.xml", item)]
    assert [shape.frame_index for shape in clips["clip.mp4"].tracks[0].shapes] == kept


def test_leaving_the_picture_ends_the_visibility(scan: Any) -> None:
    clips, _ = read(scan, {"clip.mp4": "", "clip.xml": xml(track(box(0, (90, 2, 130, 4)), box(5, (110, 2, 130, 4))))})
    first, second = clips["clip.mp4"].tracks[0].shapes
    assert (first.xyxy, first.is_outside, second.is_outside) == ((90, 2, 100, 4), False, True)


def test_a_rotated_box_becomes_the_upright_one_around_it(scan: Any) -> None:
    clips, problems = read(scan, {"clip.mp4": "", "clip.xml": xml(track(box(0, (10, 20, 30, 30), rotation="90.0")))})
    assert clips["clip.mp4"].tracks[0].shapes[0].xyxy == pytest.approx((15, 15, 25, 35))
    assert problems == [("rotated_box", "clip.xml", "track 7, frame 0")]


def test_unknown_labels(scan: Any) -> None:
    clips, problems = read(scan, {"clip.mp4": "", "clip.xml": xml(track(box(0), label="tree"), track(box(1)))})
    assert [each.class_name for each in clips["clip.mp4"].tracks] == ["car"]
    assert problems == [("unknown_class", "clip.xml", "track 7")]
    clips, _ = read(scan, {"clip.mp4": "", "clip.xml": xml(track(box(0), label="tree"))})
    assert clips["clip.mp4"].tracks is None  # no one said that nothing is there
    clips, _ = read(scan, {"clip.mp4": "", "clip.xml": xml(track(box(0), label="tree"), labels="")})
    assert clips["clip.mp4"].tracks[0].class_name == "tree"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param('<annotations><image id="0"/></annotations>', "the format CVAT for images", id="images"),
        pytest.param(
            "<annotations><meta><project><tasks><task/><task/></tasks></project></meta></annotations>",
            "holds a project of 2 tasks",
            id="project",
        ),
        pytest.param("<!DOCTYPE annotations><annotations/>", "declares a document type", id="document type"),
    ],
)
def test_refused_files(scan: Any, content: str, match: str) -> None:
    with pytest.raises(DataError, match=rf"x\.xml: .*{match}"):
        read(scan, {"clip.mp4": "", "x.xml": content})


def test_a_file_cut_short_leaves_its_clip_unlabelled(scan: Any) -> None:
    clips, problems = read(scan, {"clip.mp4": "", "clip.xml": xml(track(box(0)))[:-20]})
    assert (clips["clip.mp4"].tracks, problems) == (None, [("unreadable_labels", "clip.xml", "")])
