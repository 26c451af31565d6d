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


def xml(*tracks: str, source: str = "clip.mp4", kind: str = "task", labels: str = "car") -> str:
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
    clips, problems = read(
        scan, {"clip.mp4": "", "clip.xml": xml(track(*shapes), track(box(3), label="bus"), labels="car,bus")}
    )
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
        pytest.param(box(5, rotation="inf"), "malformed_box", "track 7, frame 5", [0], id="turned without end"),
        pytest.param('<points frame="5" points="1,2"/>', "shape_not_supported", "track 7", [0], id="points"),
        pytest.param("<skeleton frame='5'><points/></skeleton>", "shape_not_supported", "track 7", [0], id="skeleton"),
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


@pytest.mark.parametrize(
    ("shape", "xyxy"),
    [
        pytest.param(
            '<polygon frame="3" outside="0" points="1.00,2.50;30.00,4.00;9.00,40.00"/>', (1, 2.5, 30, 40), id="polygon"
        ),
        pytest.param('<ellipse frame="3" outside="0" cx="30" cy="20" rx="10" ry="5"/>', (20, 15, 40, 25), id="ellipse"),
        pytest.param(
            '<mask frame="3" outside="0" rle="1, 2, 1" left="5" top="6" width="2" height="2"/>', (5, 6, 7, 8), id="mask"
        ),
    ],
)
def test_of_other_shapes_the_box_is_taken_and_told_once(scan: Any, shape: str, xyxy: Any) -> None:
    shapes = (
        shape,
        shape.replace('frame="3"', 'frame="4"'),
        shape.replace('frame="3" outside="0"', 'frame="5" outside="1"'),
    )
    clips, problems = read(scan, {"clip.mp4": "", "clip.xml": xml(track(*shapes))})
    assert clips["clip.mp4"].tracks[0].shapes == (
        TrackShape(3, xyxy),
        TrackShape(4, xyxy),
        TrackShape(5, xyxy, is_outside=True),
    )
    assert problems == [("shape_as_box", "clip.xml", "track 7")]


def test_the_example_of_the_documentation(scan: Any) -> None:
    first, second = "324.79,213.16;323.74,227.90;347.42,237.37", "305.32,237.90;312.16,207.90;352.69,206.32"
    frames = ((0, first, 0), (1, first, 1), (6, second, 0), (7, second, 1))
    polygons = (
        f'<polygon frame="{frame}" points="{points}" outside="{outside}" occluded="0" keyframe="1">\n</polygon>'
        for frame, points, outside in frames
    )
    content = xml(track(*polygons)).replace("<width>100", "<width>640").replace("<height>50", "<height>480")
    clips, _ = read(scan, {"clip.mp4": "", "clip.xml": content})
    (found,) = clips["clip.mp4"].tracks
    assert [(shape.frame_index, shape.is_outside) for shape in found.shapes] == [
        (0, False),
        (1, True),
        (6, False),
        (7, True),
    ]
    assert found.shapes[0].xyxy == (323.74, 213.16, 347.42, 237.37)


def test_the_points_of_a_skeleton_are_no_tracks(scan: Any) -> None:
    points = '<track id="0" label="eye"><points frame="3" points="1,2" outside="0"/></track>'
    skeleton = track('<skeleton frame="3" outside="0" points="1,2"></skeleton>', points)
    clips, problems = read(scan, {"clip.mp4": "", "clip.xml": xml(skeleton, track(box(0)))})
    assert len(clips["clip.mp4"].tracks) == 1
    assert problems == [("shape_not_supported", "clip.xml", "track 7")]


def test_labels_without_a_track_are_told(scan: Any) -> None:
    head = xml(track(box(0)), labels="car,bus").replace(
        "</labels>", "<label><name>eye</name><parent>car</parent></label></labels>"
    )
    problems = Problems()
    list(cvat_video.read(scan({"clip.mp4": "", "clip.xml": head}), problems).clips)
    assert [(each.code, each.message) for each in problems.found] == [
        ("class_without_boxes", "1 of 2 labels have no track: bus; no classes of ours")
    ]


def test_images_are_no_evidence(scan: Any) -> None:
    assert cvat_video.evidence(scan({"clip.mp4": "", "x.xml": xml(track(box(0)))}))
    tree = scan({"clip.mp4": "", "x.xml": "<annotations><image/></annotations>"})
    assert cvat_video.evidence(tree) == ""


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
