"""`visionyard capture`: a person records clips of each class, for a classification."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from visionyard.errors import ConfigError

if TYPE_CHECKING:
    from visionyard.video.capture import Device, RecordedClip

output = Console(highlight=False)
_MOST_SECONDS = 3600.0
# Luma is 16 for black; a dim room still has 30, a covered lens 16 to 20.
_DARK = 24.0
_CLASS_NAME = re.compile(r"\w[\w .-]*")
_INTERRUPTED = 130


def capture_command(
    classes: Annotated[str, typer.Option(help="Names of the classes, comma separated, such as hand,no_hand.")],
    seconds: Annotated[float, typer.Option(help="Length of each clip.")] = 20.0,
    takes: Annotated[
        int, typer.Option(help="Clips of each class. A clip is never split: three are the least for train, val, test.")
    ] = 3,
    device: Annotated[
        str,
        typer.Option(
            help="A camera's number or path, an rtsp:// address, or a video file.", envvar="VISIONYARD_DEVICE"
        ),
    ] = "0",
    out: Annotated[Path, typer.Option(help="Folder for the clips, one below it for each class.")] = Path("data"),
    countdown: Annotated[float, typer.Option(help="Seconds between Enter and the first picture.")] = 3.0,
    is_waiting: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for Enter before each clip.")] = True,
) -> None:
    """Record clips of each class from a webcam or network camera, ready for `visionyard run`.

    Move about between the clips, change background and light: what differs between the takes is what the model learns
    to ignore. Ctrl-C ends it; clips that are done stay, a half one is removed, none is ever overwritten.
    """
    from visionyard.video.capture import check_device, find_device, record_clip

    names = _class_names(classes)
    _check(seconds=seconds, takes=takes, countdown=countdown)
    source = find_device(device)
    width, height = check_device(source)
    output.print(f"{source.name}: {width}x{height} px", markup=False, soft_wrap=True)
    done: list[RecordedClip] = []
    start_s = countdown if source.is_live else 0.0
    try:
        for take in range(1, takes + 1):
            for name in names:
                _prompt(name, take, takes, seconds, is_waiting=is_waiting)
                with _progress(source, seconds) as on_time:
                    clip = record_clip(source, out, name, seconds=seconds, after_s=start_s, on_time=on_time)
                done.append(clip)
                _tell(clip)
                if not source.is_live:
                    start_s += seconds  # a file goes on where the last clip ended
    except KeyboardInterrupt:
        output.print(f"\nstopped; {len(done)} whole clips in {out}", markup=False, soft_wrap=True)
        raise typer.Exit(_INTERRUPTED) from None
    output.print(f"{len(done)} clips in {out}; next:", markup=False, soft_wrap=True)
    command = f"visionyard init --source {shlex.quote(str(out))} && visionyard run run.yaml"
    output.print(f"  {command}", markup=False, soft_wrap=True)


def _class_names(text: str) -> list[str]:
    from visionyard.data.formats.reading import split_of_folder

    names = [name.strip() for name in text.split(",")]
    problems = []
    for name in names:
        if not _CLASS_NAME.fullmatch(name):
            problems.append(
                f"--classes: {name!r}: expected letters, digits, `_`, `-`, `.` or spaces, none of the last three first"
            )
        elif split_of_folder(name):
            problems.append(f"--classes: {name!r} would be read as a split's folder, not a class; call it otherwise")
    if len({name.casefold() for name in names}) < len(names):
        problems.append(f"--classes {text}: a name stands there twice (case does not count)")
    if problems:
        raise ConfigError(problems)
    return names


def _check(*, seconds: float, takes: int, countdown: float) -> None:
    problems = []
    if not 0 < seconds <= _MOST_SECONDS:
        problems.append(f"--seconds: expected above 0 and at most {_MOST_SECONDS:g}, got {seconds:g}")
    if takes < 1:
        problems.append(f"--takes: expected 1 or more, got {takes}")
    if not 0 <= countdown <= 60:
        problems.append(f"--countdown: expected 0 to 60, got {countdown:g}")
    if problems:
        raise ConfigError(problems)


def _prompt(name: str, take: int, takes: int, seconds: float, *, is_waiting: bool) -> None:
    label = f"{name}, clip {take} of {takes}, {seconds:g} s"
    if not is_waiting:
        output.print(label, markup=False)
        return
    output.print(f"{label}: press Enter when ready ", end="", markup=False)
    if not sys.stdin.readline():
        raise ConfigError("nobody can press Enter here (standard input is closed); use --no-wait")


@contextmanager
def _progress(device: "Device", seconds: float) -> Iterator[Callable[[float], None]]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.1f} of {task.total:g} s"))
    with Progress(*columns, console=output, transient=True) as progress:
        task = progress.add_task("waiting", total=seconds)

        def on_time(time_s: float) -> None:
            if time_s >= 0:
                progress.update(task, description="recording", completed=min(time_s, seconds))
            elif device.is_live:
                progress.update(task, description=f"in {-time_s:.0f} s")

        yield on_time


def _tell(clip: "RecordedClip") -> None:
    rate_hz = (clip.frame_count - 1) / clip.duration_s if clip.duration_s else 0.0
    output.print(f"  {clip.path}: {clip.frame_count} pictures, {rate_hz:.0f} a second", markup=False, soft_wrap=True)
    if clip.brightness < _DARK:
        output.print("  almost black: is the lens covered, the light on?", style="yellow", soft_wrap=True)
