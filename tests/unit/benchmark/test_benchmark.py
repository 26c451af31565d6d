"""A benchmark measures what it says, in processes of their own, and names the format to take."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from visionyard.benchmark import BenchmarkReport, Measurement, benchmark_model
from visionyard.benchmark.benchmarking import choose
from visionyard.benchmark.measure import FEWEST_REPEATS, measure
from visionyard.benchmark.pictures import draw_plot
from visionyard.benchmark.process import Worker
from visionyard.benchmark.table import markdown
from visionyard.data.dataset import Dataset
from visionyard.errors import ArtifactError, ConfigError, DataError, ModelError
from visionyard.inference import Bundle
from visionyard.stage_resources import core_count

Bundles = Callable[[str], tuple[Path, Path]]


def _images(dataset: Path, folder: Path) -> Path:
    opened = Dataset(dataset)
    folder.mkdir()
    for sample in opened.samples("test"):
        (folder / sample.key).write_bytes(opened.image_bytes(sample))
    return folder


def _one(name: str, batch_size: int, p50_ms: float, **changes: Any) -> Measurement:
    whole = Measurement(
        format=name,
        batch_size=batch_size,
        threads=1,
        repeat_count=30,
        p50_ms=p50_ms,
        p95_ms=p50_ms * 1.2,
        p99_ms=p50_ms * 1.5,
        images_per_s=1000 * batch_size / p50_ms,
        decode_ms=1.0,
        preprocess_ms=0.5,
        infer_ms=p50_ms - 2,
        postprocess_ms=0.5,
        load_ms=20.0,
        peak_memory_bytes=200_000_000,
        file_bytes=5_000_000,
    )
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def report(tiny_bundle: Bundles, tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchmarkReport, Path]:
    target = tmp_path_factory.mktemp("benchmark") / "benchmark"
    settings = {"batch_sizes": [2, 1], "threads": [1, core_count() + 1], "repeat_count": 7, "warmup_count": 1}
    bundle, dataset = tiny_bundle("detection")
    return benchmark_model(bundle, dataset, target, **settings), target


def test_every_configuration_is_measured(report: tuple[BenchmarkReport, Path]) -> None:
    found, _ = report

    places = [(one.batch_size, one.format, one.threads) for one in found.measurements]
    assert places == [(1, "onnx", 1), (1, "torchscript", 1), (2, "onnx", 1), (2, "torchscript", 1)]
    for one in found.measurements:
        phases_ms = one.decode_ms + one.preprocess_ms + one.infer_ms + one.postprocess_ms
        assert one.repeat_count == 7
        assert 0 < one.p50_ms <= one.p95_ms <= one.p99_ms
        assert one.images_per_s == pytest.approx(one.batch_size * 1000 / phases_ms, rel=0.05)
        assert one.load_ms > 0


def test_memory_is_that_of_the_format_alone(report: tuple[BenchmarkReport, Path]) -> None:
    peaks = {one.format: one.peak_memory_bytes for one in report[0].measurements if one.batch_size == 1}

    # This process holds torch; a worker for ONNX must not count that.
    assert 20e6 < peaks["onnx"] < 200e6 < peaks["torchscript"]


def test_threads_beyond_the_cores_are_skipped_and_said(report: tuple[BenchmarkReport, Path]) -> None:
    found, target = report

    assert found.skipped == [f"{core_count() + 1} threads: this machine has {core_count()} cores"]
    assert found.skipped[0] in (target / "benchmark.md").read_text()


def test_the_folder_holds_figures_table_and_plot(report: tuple[BenchmarkReport, Path], tiny_bundle: Bundles) -> None:
    found, target = report
    values = json.loads((target / "benchmark.json").read_text())

    assert sorted(path.name for path in target.iterdir()) == [
        "benchmark.json", "benchmark.md", "benchmark.png", "benchmark.svg"
    ]  # fmt: skip
    assert (values["schema_version"], values["artifact"]) == (1, "benchmark")
    assert len(values["measurements"]) == 4
    assert values["fastest"]["format"] == found.fastest_format
    assert values["bundle_digest"] == Bundle.open(tiny_bundle("detection")[0]).digest
    assert values["machine"]["cores"] == core_count()
    assert next(iter(found.figures())) == "fastest"


@pytest.mark.parametrize(
    ("measurements", "fastest", "most"),
    [
        pytest.param([_one("onnx", 1, 5), _one("torchscript", 1, 6)], ("onnx", 1), ("onnx", 1), id="onnx"),
        pytest.param(
            [_one("onnx", 1, 7), _one("torchscript", 1, 6)], ("torchscript", 1), ("torchscript", 1), id="torchscript"
        ),
        pytest.param(
            [_one("onnx", 1, 5), _one("onnx", 8, 39), _one("torchscript", 1, 6), _one("torchscript", 8, 30)],
            ("onnx", 1),
            ("torchscript", 8),
            id="throughput_of_another",
        ),
        pytest.param([_one("onnx", 4, 9), _one("onnx", 8, 20)], ("onnx", 4), ("onnx", 4), id="no_single_images"),
        pytest.param([_one("int8", 1, 1), _one("onnx", 1, 5)], ("onnx", 1), ("onnx", 1), id="fast_but_not_certified"),
    ],
)
def test_the_fastest_format_is_one_that_keeps_the_metric(
    measurements: list[Measurement], fastest: tuple[str, int], most: tuple[str, int], tiny_bundle: Bundles
) -> None:
    parity = Bundle.open(tiny_bundle("detection")[0]).manifest.parity

    chosen = choose(measurements, parity)

    assert [(one.format, one.batch_size) for one in chosen] == [fastest, most]


def test_a_format_whose_metric_moved_is_not_the_fastest(tiny_bundle: Bundles) -> None:
    parity = Bundle.open(tiny_bundle("detection")[0]).manifest.parity
    moved = parity.formats["onnx"].model_copy(update={"metric_gap": 0.01})
    parity = parity.model_copy(update={"formats": {**parity.formats, "onnx": moved}})

    assert choose([_one("onnx", 1, 5), _one("torchscript", 1, 6)], parity)[0].format == "torchscript"


def test_a_slow_model_is_measured_as_often_as_there_is_time(
    tiny_bundle: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visionyard.benchmark.measure.BUDGET_MS", 0.0)
    folder, dataset = tiny_bundle("classification")
    bundle = Bundle.open(folder)
    only_onnx = replace(
        bundle, manifest=bundle.manifest.model_copy(update={"formats": {"onnx": bundle.manifest.formats["onnx"]}})
    )

    (found,) = measure(
        only_onnx, _images(dataset, tmp_path / "images"), batch_sizes=[1], threads=[1], repeat_count=500, warmup_count=1
    )

    assert found.repeat_count == FEWEST_REPEATS


def test_refuses_threads_that_no_core_can_run(tiny_bundle: Bundles, tmp_path: Path) -> None:
    bundle, dataset = tiny_bundle("classification")

    with pytest.raises(ConfigError, match=rf"benchmark.threads = \[4096\]: this machine has {core_count()} cores"):
        benchmark_model(
            bundle, dataset, tmp_path / "out", batch_sizes=[1], threads=[4096], repeat_count=5, warmup_count=1
        )

    assert list(tmp_path.iterdir()) == []


def test_refuses_a_dataset_without_test_images(
    tiny_bundle: Bundles, tiny_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    bundle, _ = tiny_bundle("classification")
    dataset = tiny_dataset("classification", counts={"train": 2})

    with pytest.raises(DataError, match="the test split is empty"):
        benchmark_model(bundle, dataset, tmp_path / "out", batch_sizes=[1], threads=[1], repeat_count=5, warmup_count=1)

    assert list(tmp_path.iterdir()) == []


def test_refuses_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a model bundle"):
        benchmark_model(
            tmp_path, tmp_path, tmp_path / "out", batch_sizes=[1], threads=[1], repeat_count=5, warmup_count=1
        )


def test_a_worker_that_dies_says_why(tiny_bundle: Bundles, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0").write_bytes(b"no image")

    with pytest.raises(ModelError, match=r"onnx with 1 thread: the process ended with code 1: (.*\n)*.*not an image"):
        with Worker(tiny_bundle("classification")[0], "onnx", 1, tmp_path / "images") as worker:
            worker.answer()
            worker.ask(do="load")
            worker.ask(do="call", batch_size=1, count=1, first=0)


def test_a_killed_worker_means_memory(tiny_bundle: Bundles, tmp_path: Path) -> None:
    bundle, dataset = tiny_bundle("classification")

    with pytest.raises(MemoryError, match="onnx with 2 threads: the process was killed"):
        with Worker(bundle, "onnx", 2, _images(dataset, tmp_path / "images")) as worker:
            worker.answer()
            os.kill(worker.pid, signal.SIGKILL)
            worker.ask(do="load")


def test_the_table_reads_well() -> None:
    fastest = _one("onnx", 1, 5.04)
    machine = {"cpu": "A CPU", "cores": 2, "load_average": 0.25}

    text = markdown([fastest, _one("torchscript", 8, 40)], fastest, [], machine)

    assert text.startswith("Fastest format that keeps the metric: **onnx**, 5.0 ms for one image, 1 thread.")
    assert "| **onnx** | 1 | 1 | 5.0 | 6.0 | 7.6 | 198.4 |" in text
    assert "Machine: A CPU, 2 cores, load 0.25 before the benchmark." in text
    assert "Skipped" not in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_the_plot_is_600_px_wide_and_the_same_each_time(tmp_path: Path) -> None:
    from PIL import Image

    measurements = [_one("onnx", 1, 5), _one("torchscript", 1, 6, threads=2)]
    for name in ("a.png", "b.png"):
        draw_plot(measurements, measurements[0], tmp_path / name)

    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1200  # at two pixels a CSS pixel
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"http://www.w3.org/2000/svg" in (tmp_path / "a.svg").read_bytes()
