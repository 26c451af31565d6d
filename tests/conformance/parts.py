"""The stages that the conformance suite runs: small, in the data image, tracing what ran in the run's folder."""

from typing import NamedTuple

from kfp import dsl

from visionyard.components._images import DATA_IMAGE

stage = dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)


@stage
def echo(text: str, whole: int, real: float, flag: bool, items: list, table: dict) -> str:
    import json

    return json.dumps([text, whole, real, flag, items, table], ensure_ascii=False, sort_keys=True)


@stage
def echo_defaults(text: str = "é", whole: int = -1, real: float = 0.5, flag: bool = True, items: list = [1]) -> str:  # noqa: B006
    return repr((text, whole, real, flag, items))


@stage
def describe(items: list) -> str:
    return f"{len(items)} {sum(items):.0f}"


@stage
def several(number: int) -> NamedTuple("Several", [("double", int), ("half", float), ("word", str), ("is_even", bool)]):
    return number * 2, number / 2, str(number), number % 2 == 0


@stage
def trace(name: str) -> str:
    """Note in the run's folder that it ran."""
    import os
    from pathlib import Path

    with Path(os.environ["VISIONYARD_EVENTS"]).with_name("trace.txt").open("a") as stream:
        stream.write(f"{name}\n")
    return name


@stage
def write_file(data: dsl.Output[dsl.Dataset], byte_count: int) -> str:
    import hashlib
    from pathlib import Path

    content = hashlib.shake_256(b"visionyard").digest(byte_count)
    Path(data.path).write_bytes(content)
    data.metadata.update({"bytes": byte_count, "name": "Größe", "nested": {"list": [1, "zwei", None]}})
    return hashlib.sha256(content).hexdigest()


@stage
def read_file(data: dsl.Input[dsl.Dataset]) -> str:
    import hashlib
    from pathlib import Path

    return hashlib.sha256(Path(data.path).read_bytes()).hexdigest()


@stage
def read_metadata(data: dsl.Input[dsl.Dataset]) -> str:
    import json

    return json.dumps(data.metadata, sort_keys=True, ensure_ascii=False)


@stage
def write_folder(folder: dsl.Output[dsl.Model], file_count: int) -> None:
    from pathlib import Path

    for number in range(file_count):
        path = Path(folder.path) / f"part {number % 7}" / f"näme-{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    (Path(folder.path) / "empty").mkdir()


@stage
def read_folder(folder: dsl.Input[dsl.Model]) -> str:
    from pathlib import Path

    files = sorted(path for path in Path(folder.path).rglob("*") if path.is_file())
    total = sum(int(path.read_text()) for path in files)
    return f"{len(files)} {total} {files[0].relative_to(folder.path)} {(Path(folder.path) / 'empty').is_dir()}"


@stage
def judge(
    metrics: dsl.Output[dsl.Metrics], matrix: dsl.Output[dsl.ClassificationMetrics], page: dsl.Output[dsl.HTML]
) -> None:
    from pathlib import Path

    metrics.log_metric("map_50", 0.875)
    matrix.log_confusion_matrix(["cat", "dog"], [[3, 1], [0, 4]])
    Path(page.path).write_text("<p>größer</p>", encoding="utf-8")


@stage
def read_metrics(metrics: dsl.Input[dsl.Metrics]) -> float:
    return metrics.metadata["map_50"]


@stage
def leave_unwritten(data: dsl.Output[dsl.Dataset]) -> None:
    pass


@stage
def is_there(data: dsl.Input[dsl.Dataset]) -> bool:
    from pathlib import Path

    return Path(data.path).exists()


@stage
def split(count: int) -> list:
    return [{"label": f"item {number}", "value": number} for number in range(count)]


@stage
def join(texts: list) -> str:
    return ",".join(sorted(texts))


@stage
def join_files(data: dsl.Input[list[dsl.Dataset]]) -> str:
    from pathlib import Path

    return " ".join(sorted(str(Path(one.path).stat().st_size) for one in data))


@stage
def write_sized(byte_count: int, data: dsl.Output[dsl.Dataset]) -> None:
    from pathlib import Path

    Path(data.path).write_bytes(bytes(byte_count))


@stage
def fail(message: str) -> str:
    raise ValueError(message)


@stage
def leave(code: int) -> str:
    import sys

    sys.exit(code)


@stage
def die() -> str:
    """End as the kernel ends what takes too much memory."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@stage
def fail_times(count: int) -> str:
    """Fail until it has been tried more than `count` times."""
    import os
    from pathlib import Path

    path = Path(os.environ["VISIONYARD_EVENTS"]).with_name("tries.txt")
    with path.open("a") as stream:
        stream.write("x")
    tries = len(path.read_text())
    if tries <= count:
        raise RuntimeError(f"try {tries}")
    return f"try {tries}"


@stage
def report_failure(kind: str) -> str:
    """Fail as a stage of ours does."""
    from visionyard import events
    from visionyard.errors import DataError

    with events.stage("report_failure"):
        events.warn("größer als erwartet")
        if kind == "bad_data":
            raise DataError("clip.mp4: expected 30 frames, got 3")
        if kind == "out_of_memory":
            raise MemoryError("12 GiB")
        events.figures(images=7)
    return kind


@stage
def wait_for_file(name: str) -> str:
    """Tell that it runs, then wait until somebody writes the file into the run's folder."""
    import os
    import time
    from pathlib import Path

    from visionyard import events

    with events.stage("wait_for_file"):
        path = Path(os.environ["VISIONYARD_EVENTS"]).with_name(name)
        while not path.exists():
            time.sleep(0.02)
    return "found"


@stage
def read_environment(names: list) -> str:
    import os

    return "|".join(os.environ.get(name, "-") for name in names)


@stage
def use_places() -> str:
    """Write where a stage may write: its home and its folder for temporary files."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").write_text("a")
    with tempfile.NamedTemporaryFile(dir=Path.home()):
        pass
    return "written"


@stage
def talk() -> None:
    import sys

    print("größer: 日本語")
    sys.stderr.write("to standard error\n")


@stage
def list_source(source: str) -> str:
    from pathlib import Path

    return ",".join(sorted(path.name for path in Path(source).iterdir()))


@stage
def note_end(status: dsl.PipelineTaskFinalStatus) -> None:
    import os
    from pathlib import Path

    Path(os.environ["VISIONYARD_EVENTS"]).with_name("end.txt").write_text(status.state)
