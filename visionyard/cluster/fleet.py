"""The same bundle on several kinds of node: a measurement each, then one table with the cost of 1,000 images."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from visionyard import storage
from visionyard.atomic import write_atomic
from visionyard.cluster.costs import PRICES_VARIABLE, Prices, load_prices
from visionyard.data.artifacts import read_manifest
from visionyard.errors import ArtifactError, ConfigError
from visionyard.stage_resources import StageResources, held_resources

if TYPE_CHECKING:
    from visionyard.benchmark import BenchmarkReport

FLEET_VARIABLE = "VISIONYARD_FLEET"
DEFAULT_FLEET = "cpu"
# As many as compare_nodes has inputs: with it and the driver's limit of twelve tasks there is room to spare.
LARGEST_FLEET = 8
_NODE = "node.json"
_HOUR_S = 3600.0


@dataclass(frozen=True)
class NodeRow:
    """How fast and how dear a bundle is on a kind of node.

    Attributes:
        node_type: Its name.
        cpu: The processor's name.
        cpu_count: Cores that the container held.
        accelerator: Name and number of its accelerators; empty: none.
        format: Of the bundle, the one with the highest throughput that keeps the metric.
        p50_ms: Of the quickest format for the smallest batch.
        images_per_s: Of the one with the highest throughput.
        hourly: What the node, or what the container held of it, costs an hour.
        per_1000_images: What 1,000 images cost at the highest throughput.
        currency: Empty: no price table, and no costs.
    """

    node_type: str
    cpu: str
    cpu_count: float
    accelerator: str
    format: str
    p50_ms: float
    images_per_s: float
    hourly: float = 0.0
    per_1000_images: float = 0.0
    currency: str = ""


def fleet_profiles() -> list[str]:
    """Return the profiles whose nodes are compared: those that VISIONYARD_FLEET lists when a pipeline is compiled.

    Raises:
        ConfigError: There are too many, or one is named twice.
    """
    text = os.environ.get(FLEET_VARIABLE, "") or DEFAULT_FLEET
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not 1 <= len(names) <= LARGEST_FLEET:
        raise ConfigError(f"{FLEET_VARIABLE} = {text!r}: expected 1 to {LARGEST_FLEET} profiles, comma separated")
    types = [node_type_of(name) for name in names]
    if len(set(types)) < len(types):
        raise ConfigError(f"{FLEET_VARIABLE} = {text!r}: a node type is named twice")
    return names


def node_type_of(profile: str) -> str:
    """Return what the table calls the nodes of a profile: its name, or its file's name without the ending."""
    return Path(profile).stem


def measure_node(
    bundle_uri: str,
    dataset_uri: str,
    target: Path,
    *,
    node_type: str,
    batch_sizes: Sequence[int],
    threads: Sequence[int],
    repeat_count: int,
    warmup_count: int,
) -> "BenchmarkReport":
    """Measure a bundle on this node; see `visionyard.benchmark.benchmark_model` for the arguments and errors.

    Args:
        bundle_uri: Address of the bundle.
        dataset_uri: Address of the dataset version.
        target: The folder to write: the benchmark, and `node.json` with the node's type and what was held of it.
        node_type: What the table calls the node.
        batch_sizes: Images a call.
        threads: Intra-operator threads.
        repeat_count: Timed calls of each combination.
        warmup_count: Calls before the timed ones.

    Raises:
        StorageError: A store refused or timed out, or there is nothing.
    """
    # Composing the pipeline reads this module too, where there need be no runtime of models.
    from visionyard.benchmark import benchmark_model

    with TemporaryDirectory(prefix="visionyard-") as scratch:
        bundle, dataset = Path(scratch) / "bundle", Path(scratch) / "dataset"
        storage.fetch_folder(bundle_uri, bundle)
        storage.fetch_folder(dataset_uri, dataset)
        report = benchmark_model(
            bundle,
            dataset,
            target,
            batch_sizes=batch_sizes,
            threads=threads,
            repeat_count=repeat_count,
            warmup_count=warmup_count,
        )
    values = {"schema_version": 1, "node_type": node_type, "resources": asdict(held_resources())}
    write_atomic(target / _NODE, json.dumps(values, indent=1) + "\n")
    return report


def compare(folders: Sequence[Path], *, table: Path, fleet: Path, prices_uri: str = "") -> list[NodeRow]:
    """Put measurements into one table.

    Args:
        folders: From `measure_node`, at least one, all of the same bundle.
        table: The Markdown file to write.
        fleet: The JSON file to write.
        prices_uri: The price table; empty: the one that VISIONYARD_PRICES names, or none.

    Returns:
        A row for each node, the cheapest first; without prices the fastest first.

    Raises:
        ArtifactError: A folder is no measurement, or they are of different bundles.
        ConfigError: The price table is wrong, or lacks a price.
    """
    prices = _prices(prices_uri or os.environ.get(PRICES_VARIABLE, ""))
    measurements = {folder: read_manifest(folder, "benchmark", name="benchmark.json") for folder in folders}
    digests = {measured["bundle_digest"] for measured in measurements.values()}
    if len(digests) != 1:
        raise ArtifactError(f"expected measurements of one bundle, got those of {len(digests)}; measure them again")
    rows = sorted(
        (_row(folder, measured, prices) for folder, measured in measurements.items()),
        key=lambda row: (row.per_1000_images, -row.images_per_s),
    )
    content = {"schema_version": 1, "bundle_digest": digests.pop(), "nodes": [asdict(row) for row in rows]}
    write_atomic(fleet, json.dumps(content, indent=1) + "\n")
    write_atomic(table, _markdown(rows))
    return rows


def _prices(uri: str) -> Prices | None:
    if not uri:
        return None
    with TemporaryDirectory(prefix="visionyard-") as folder:
        return load_prices(storage.fetch_file(uri, Path(folder) / "prices.yaml"))


def _row(folder: Path, measured: Mapping[str, Any], prices: Prices | None) -> NodeRow:
    try:
        node = json.loads((folder / _NODE).read_text(encoding="utf-8"))
        node_type, held = str(node["node_type"]), StageResources(**node["resources"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(f"{folder / _NODE}: not a node's measurement; run benchmark_node again") from None
    most = measured["most_images_per_s"]
    hourly = _hourly(node_type, held, prices) if prices else 0.0
    return NodeRow(
        node_type=node_type,
        cpu=str(measured["machine"]["cpu"]),
        cpu_count=held.cpu_count,
        accelerator=f"{held.accelerator_count} x {held.accelerator_type}" if held.accelerator_count else "",
        format=most["format"],
        p50_ms=measured["fastest"]["p50_ms"],
        images_per_s=most["images_per_s"],
        hourly=hourly,
        per_1000_images=hourly / _HOUR_S * 1000 / most["images_per_s"],
        currency=prices.currency if prices else "",
    )


def _hourly(node_type: str, held: StageResources, prices: Prices) -> float:
    """Return the price of the whole node where the table has one, else of what the container held of it."""
    if node_type in prices.node_hour:
        return prices.node_price(node_type)
    return prices.cost(_HOUR_S, **asdict(held))


def _markdown(rows: Sequence[NodeRow]) -> str:
    currency = rows[0].currency
    heads = ["node", "processor", "cores", "accelerator", "format", "p50 ms", "images/s"]
    heads += [f"{currency}/hour", f"{currency}/1,000 images"] if currency else []
    lines = ["| " + " | ".join(heads) + " |", "| --- | --- | ---: | --- | --- |" + " ---: |" * (len(heads) - 5)]
    for row in rows:
        cells = [row.node_type, row.cpu, f"{row.cpu_count:g}", row.accelerator, row.format]
        cells += [f"{row.p50_ms:.1f}", f"{row.images_per_s:.1f}"]
        cells += [f"{row.hourly:.3f}", f"{row.per_1000_images:.6f}"] if currency else []
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
