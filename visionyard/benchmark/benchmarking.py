"""The benchmark stage: how fast each format of a bundle is on real images, and which one to take.

benchmark.json   the figures: `measurements`, `skipped`, `fastest`, `most_images_per_s`, `machine` (keys below)
benchmark.md     the same as a table
benchmark.png    and benchmark.svg: the plot
"""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from visionyard import events
from visionyard.atomic import atomic_folder
from visionyard.benchmark.measure import Measurement, measure
from visionyard.benchmark.pictures import PLOT, draw_plot
from visionyard.benchmark.table import markdown
from visionyard.data.artifacts import write_manifest
from visionyard.data.dataset import DatasetVersion
from visionyard.data.opening import open_folder
from visionyard.errors import ConfigError, DataError
from visionyard.inference import Bundle
from visionyard.inference.bundle import ParitySummary
from visionyard.stage_resources import core_count

BENCHMARK = "benchmark.json"
TABLE = "benchmark.md"
_IMAGE_COUNT = 64


@dataclass(frozen=True)
class BenchmarkReport:
    """How fast a bundle is.

    Attributes:
        measurements: One a format, batch size and thread count.
        skipped: What was left out and why, one sentence each.
        fastest: The quickest for the smallest batch, among the formats that keep the metric.
        most_images_per_s: The one with the highest throughput, among the same.
        machine: `cpu`, `cores`, and `load_average` of the minute before, which tells a busy machine.
        item: What people call what was looked at: image, row.
    """

    measurements: list[Measurement]
    skipped: list[str]
    fastest: Measurement
    most_images_per_s: Measurement
    machine: dict[str, float | int | str]
    item: str = "image"

    @property
    def fastest_format(self) -> str:
        """The format to take."""
        return self.fastest.format

    def figures(self) -> dict[str, events.Figure]:
        """Return what the run's table shows."""
        return {
            "fastest": f"{self.fastest.format} {self.fastest.p50_ms:.{1 if self.fastest.p50_ms >= 1 else 2}f} ms",
            "p50_ms": self.fastest.p50_ms,
            "p95_ms": self.fastest.p95_ms,
            f"{self.item}s_per_s": self.most_images_per_s.images_per_s,
        }

    def metadata(self) -> dict[str, float | int | str]:
        """Return what the artifact of the stage says of itself."""
        return {
            "fastest_format": self.fastest_format,
            "p50_ms": self.fastest.p50_ms,
            "p95_ms": self.fastest.p95_ms,
            "images_per_s": self.most_images_per_s.images_per_s,
        }


def benchmark_model(
    bundle: Path,
    dataset: Path,
    target: Path,
    *,
    batch_sizes: Sequence[int],
    threads: Sequence[int],
    repeat_count: int,
    warmup_count: int,
) -> BenchmarkReport:
    """Measure a model bundle on images of the test split, or rows, from encoded image or JSON text to prediction.

    Args:
        bundle: Folder of the model bundle.
        dataset: Folder of a dataset version.
        target: The folder to write; it appears whole or not at all.
        batch_sizes: Images a call, each 1 or more.
        threads: Intra-operator threads, each 1 or more; more than the cores there are is skipped and said.
        repeat_count: Timed calls of each combination, fewer when they take long.
        warmup_count: Calls before the timed ones.

    Raises:
        ArtifactError: The bundle or the dataset is incomplete or altered.
        ConfigError: Every thread count is above the cores there are.
        DataError: The test split is empty.
        ModelError: A format cannot be run.
    """
    opened, data = Bundle.open(bundle), open_folder(dataset)
    cores = core_count()
    usable, skipped = _usable_threads(threads, cores)
    machine: dict[str, float | int | str] = {
        "cpu": _cpu_name(),
        "cores": cores,
        "load_average": round(os.getloadavg()[0], 2),
    }
    with atomic_folder(target) as folder, TemporaryDirectory(prefix="visionyard-benchmark-") as scratch:
        images = Path(scratch)
        _write_contents(data, images)
        measurements = list(
            measure(
                opened,
                images,
                batch_sizes=batch_sizes,
                threads=usable,
                repeat_count=repeat_count,
                warmup_count=warmup_count,
            )
        )
        fastest, most = choose(measurements, opened.manifest.parity)
        report = BenchmarkReport(measurements, skipped, fastest, most, machine, data.item)
        values = {
            "measurements": [asdict(one) for one in measurements],
            "skipped": skipped,
            "fastest": asdict(report.fastest),
            "most_images_per_s": asdict(report.most_images_per_s),
            "machine": report.machine,
            "bundle_digest": opened.digest,
        }
        write_manifest(folder, "benchmark", values, name=BENCHMARK)
        (folder / TABLE).write_text(markdown(measurements, fastest, skipped, machine, item=data.item), encoding="utf-8")
        draw_plot(measurements, fastest, folder / PLOT, item=data.item)
    return report


def _usable_threads(threads: Sequence[int], cores: int) -> tuple[list[int], list[str]]:
    skipped = [f"{count} threads: this machine has {cores} cores" for count in sorted(set(threads)) if count > cores]
    usable = [count for count in threads if count <= cores]
    for sentence in skipped:
        events.warn(f"benchmark: skipped {sentence}")
    if not usable:
        raise ConfigError(f"benchmark.threads = {list(threads)}: this machine has {cores} cores; name {cores} or fewer")
    return usable, skipped


def _write_contents(dataset: DatasetVersion, folder: Path) -> None:
    count = dataset.count("test")
    if not count:
        raise DataError(f"{dataset.folder}: the test split is empty; speed is measured on it; raise data.test_fraction")
    for position in np.unique(np.linspace(0, count - 1, min(count, _IMAGE_COUNT)).round().astype(int)):
        sample = dataset.sample("test", int(position))
        (folder / f"{position:08d}").write_bytes(dataset.content_bytes(sample))


def choose(measurements: Sequence[Measurement], parity: ParitySummary | None) -> tuple[Measurement, Measurement]:
    """Return the quickest measurement for the smallest batch and the one with the highest throughput.

    Only formats that keep the metric are looked at: a bundle may hold a lossy one that was allowed a larger difference.

    Args:
        measurements: At least one of them of a format that keeps the metric.
        parity: The bundle's certificate; None for an imported model, which has one format and nothing to keep to.
    """
    kept = [one for one in measurements if parity is None or parity.keeps_metric(one.format)]
    smallest = min(one.batch_size for one in kept)
    fastest = min((one for one in kept if one.batch_size == smallest), key=lambda one: one.p50_ms)
    return fastest, max(kept, key=lambda one: one.images_per_s)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
