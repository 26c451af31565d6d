"""`visionyard capture` with a file as the camera: what a person sees, and the folder that comes of it."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.fixtures.clips import write_clip
from visionyard.cli.app import app
from visionyard.data.ingest import ingest
from visionyard.errors import ConfigError, MediaError


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    images = (np.full((48, 64, 3), max(0, 4 * (number - 10)), np.uint8) for number in range(60))
    return write_clip(tmp_path / "camera.mp4", images)


def run(*arguments: object, keys: str = "") -> Result:
    return CliRunner().invoke(app, ["capture", *map(str, arguments)], input=keys, terminal_width=200)


def clips(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_clips_of_each_class_are_recorded_and_can_be_ingested(
    camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    arguments = ["--classes", "hand, no_hand", "--seconds", 1, "--takes", 2, "--device", camera, "--out", out]
    result = run(*arguments, keys="\n\n\n\n")
    assert result.exit_code == 0, result.output
    expected = ["hand/hand-001.mp4", "hand/hand-002.mp4", "no_hand/no_hand-001.mp4", "no_hand/no_hand-002.mp4"]
    assert clips(out) == expected
    report = ingest(str(out), tmp_path / "sources")
    assert (report.kind, report.clip_count, report.classes) == ("clips_by_class", 4, ("hand", "no_hand"))
    assert run(*arguments, "--no-wait", "--takes", 1).exit_code == 0
    assert len(clips(out)) == 6


def test_what_is_said(camera: Path, tmp_path: Path) -> None:
    result = run("--classes", "a,b", "--seconds", 1, "--takes", 1, "--device", camera, "--out", tmp_path, keys="\n\n")
    lines = result.output.splitlines()
    assert lines[0] == f"{camera}: 64x48 px"
    assert "a, clip 1 of 1, 1 s: press Enter when ready" in result.output
    assert "10 pictures, 10 a second" in result.output
    assert result.output.count("almost black") == 1  # the first second of the file is, the next is not
    assert lines[-2:] == [
        f"2 clips in {tmp_path}; next:",
        f"  visionyard init --source {tmp_path} && visionyard run run.yaml",
    ]


def test_ctrl_c_leaves_whole_clips_only(camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from visionyard.video import capture as recording

    record = recording.record_clip

    def record_one(*arguments: object, on_time: object, **options: object) -> object:
        def stop(time_s: float) -> None:
            if time_s > 0.5:
                raise KeyboardInterrupt

        is_second = (tmp_path / "data" / "a" / "a-001.mp4").exists()
        return record(*arguments, on_time=stop if is_second else on_time, **options)

    monkeypatch.setattr(recording, "record_clip", record_one)
    result = run("--classes", "a,b", "--seconds", 1, "--device", camera, "--out", tmp_path / "data", "--no-wait")
    assert result.exit_code == 130
    assert f"stopped; 1 whole clips in {tmp_path / 'data'}" in result.output
    assert clips(tmp_path / "data") == ["a/a-001.mp4"]


def test_a_device_that_ends_is_told(camera: Path, tmp_path: Path) -> None:
    result = run("--classes", "a", "--seconds", 4, "--device", camera, "--out", tmp_path / "data", "--no-wait")
    assert isinstance(result.exception, MediaError)
    assert "ended after 2.0 of 4 s" in str(result.exception)
    assert clips(tmp_path / "data") == ["a/a-001.mp4"]


def test_the_device_may_come_from_the_environment(
    camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONYARD_DEVICE", str(camera))
    assert run("--classes", "a", "--seconds", 0.5, "--takes", 1, "--out", tmp_path / "data", "--no-wait").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--classes", "a,,b"], "'': expected letters, digits", id="empty name"),
        pytest.param(["--classes", "../a,b"], r"'\.\./a': expected letters", id="path"),
        pytest.param(["--classes", ".a"], r"'\.a': expected letters", id="hidden"),
        pytest.param(["--classes", "hand,Hand"], "a name stands there twice", id="twice"),
        pytest.param(["--classes", "train,b"], "'train' would be read as a split's folder", id="split"),
        pytest.param(["--classes", "a", "--seconds", "0"], "--seconds: expected above 0 .* got 0", id="no seconds"),
        pytest.param(["--classes", "a", "--takes", "0"], "--takes: expected 1 or more, got 0", id="no takes"),
        pytest.param(["--classes", "a", "--countdown", "-1"], "--countdown: expected 0 to 60, got -1", id="countdown"),
        pytest.param(
            ["--classes", "a", "--device", "x.mp4"], "--device x.mp4: expected a camera's number", id="device"
        ),
    ],
)
def test_wrong_use_is_told(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = run(*arguments, "--out", tmp_path / "data")
    assert isinstance(result.exception, ConfigError)
    with pytest.raises(ConfigError, match=message):
        raise result.exception
    assert not (tmp_path / "data").exists()


def test_without_a_keyboard_it_says_what_to_do(camera: Path, tmp_path: Path) -> None:
    result = run("--classes", "a", "--device", camera, "--out", tmp_path / "data")
    assert isinstance(result.exception, ConfigError)
    assert "use --no-wait" in str(result.exception)
