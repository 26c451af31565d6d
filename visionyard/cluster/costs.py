"""What a run cost: seconds of cores and accelerators and bytes in the store, times a price table.

What is counted is what was held, not what was used: a stage that waits for data with a GPU pays for the GPU. Tries that
failed or were killed count too; a killed one is taken to have ended with its last sign of life.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from visionyard.cluster.attempts import Attempt, read_attempts
from visionyard.config import Section
from visionyard.config.loading import ConfigReader
from visionyard.errors import ConfigError

PRICES_VARIABLE = "VISIONYARD_PRICES"
_HOUR_S = 3600.0
_GB = 1e9


class StoragePrices(Section):
    """What bytes in the object store cost."""

    stored_gb_month: float = Field(default=0.0, ge=0, description="A gigabyte (10^9 bytes) kept for a month.")
    kept_months: float = Field(default=1.0, ge=0, description="How long a run's objects are kept.")
    read_gb: float = Field(default=0.0, ge=0, description="A gigabyte that a stage reads.")
    written_gb: float = Field(default=0.0, ge=0, description="A gigabyte that a stage writes.")


class ServerlessPrices(Section):
    """What a serverless offer costs."""

    instance_second: float = Field(ge=0, description="A second that an instance is up.")
    million_requests: float = Field(default=0.0, ge=0, description="A million requests.")


class Prices(Section):
    """What an hour and a byte cost; see docs/costs.md."""

    schema_version: Literal[1] = Field(default=1, description="Of this file.")
    currency: str = Field(min_length=1, description="Of all prices, such as EUR.")
    cpu_hour: float = Field(default=0.0, ge=0, description="A core for an hour.")
    memory_gb_hour: float = Field(default=0.0, ge=0, description="A gigabyte (10^9 bytes) of memory for an hour.")
    accelerator_hour: dict[str, float] = Field(
        default_factory=dict,
        description="One accelerator for an hour, by resource name or by a part of the device's name, such as h100.",
    )
    node_hour: dict[str, float] = Field(default_factory=dict, description="A whole node for an hour, by node type.")
    storage: StoragePrices = Field(default_factory=StoragePrices, description="Bytes in the object store.")
    serverless: ServerlessPrices | None = Field(default=None, description="A serverless offer, for the advice.")

    def cost(
        self,
        elapsed_s: float,
        *,
        cpu_count: float = 0.0,
        memory_bytes: float = 0.0,
        accelerator_type: str = "",
        accelerator_count: float = 0.0,
    ) -> float:
        """Return what holding some resources for a time costs.

        Args:
            elapsed_s: For how long, 0 or more.
            cpu_count: Cores.
            memory_bytes: Memory.
            accelerator_type: Resource name or device name; looked at only when there are any.
            accelerator_count: Accelerators.

        Raises:
            ConfigError: The table has no price for the accelerator.
        """
        hourly = cpu_count * self.cpu_hour + memory_bytes / _GB * self.memory_gb_hour
        if accelerator_count:
            hourly += accelerator_count * self.accelerator_price(accelerator_type)
        return elapsed_s / _HOUR_S * hourly

    def accelerator_price(self, name: str) -> float:
        """Return what an accelerator costs an hour: by its exact name, else by the longest key that its name holds.

        Raises:
            ConfigError: No key fits.
        """
        if name in self.accelerator_hour:
            return self.accelerator_hour[name]
        fitting = [key for key in self.accelerator_hour if key.lower() in name.lower()]
        if not fitting:
            raise ConfigError(
                f"accelerator_hour: no price for {name!r}; add it to the price table, which knows "
                f"{', '.join(sorted(self.accelerator_hour)) or 'none'}"
            )
        return self.accelerator_hour[max(fitting, key=len)]

    def node_price(self, node_type: str) -> float:
        """Return what a node costs an hour.

        Raises:
            ConfigError: The table has no price for that type.
        """
        if node_type not in self.node_hour:
            raise ConfigError(
                f"node_hour: no price for {node_type!r}; add it to the price table, which knows "
                f"{', '.join(sorted(self.node_hour)) or 'none'}"
            )
        return self.node_hour[node_type]

    def storage_cost(self, *, stored_bytes: float = 0.0, read_bytes: float = 0.0, written_bytes: float = 0.0) -> float:
        """Return what bytes cost: kept for `storage.kept_months`, read and written."""
        kept = stored_bytes * self.storage.stored_gb_month * self.storage.kept_months
        return (kept + read_bytes * self.storage.read_gb + written_bytes * self.storage.written_gb) / _GB


_READER = ConfigReader(Prices, "VISIONYARD_PRICE_", "cpu_hour=0.04", "docs/costs.md shows one")


def load_prices(path: Path | str) -> Prices:
    """Read a price table.

    Raises:
        ConfigError: The file is missing or any value is wrong; it lists all mistakes.
    """
    return _READER.load(Path(path), (), {})


@dataclass(frozen=True)
class StageCost:
    """What a stage cost, all its tries together.

    Attributes:
        stage: Its name.
        try_count: How often it started.
        elapsed_s: Of all tries.
        cpu_s: Cores times seconds.
        accelerator_s: Accelerators times seconds.
        accelerator_type: The device's name; empty without any.
        read_bytes: From the object store, by the stage itself.
        written_bytes: To it.
        cost: In the table's currency.
    """

    stage: str
    try_count: int
    elapsed_s: float
    cpu_s: float
    accelerator_s: float
    accelerator_type: str
    read_bytes: int
    written_bytes: int
    cost: float


@dataclass(frozen=True)
class RunCost:
    """What a run cost.

    Attributes:
        run: Its name.
        currency: Of all costs.
        stages: In the order in which they started.
        stored_bytes: What it left in the store.
        stored_cost: Of keeping that.
        metric: Name of the figure that the cost is held against; empty when the run has none.
        metric_value: That figure.
    """

    run: str
    currency: str
    stages: list[StageCost]
    stored_bytes: int = 0
    stored_cost: float = 0.0
    metric: str = ""
    metric_value: float = 0.0

    @property
    def total(self) -> float:
        """All together."""
        return sum(stage.cost for stage in self.stages) + self.stored_cost

    @property
    def cpu_s(self) -> float:
        """Cores times seconds of all stages."""
        return sum(stage.cpu_s for stage in self.stages)

    @property
    def accelerator_s(self) -> float:
        """Accelerators times seconds of all stages."""
        return sum(stage.accelerator_s for stage in self.stages)

    @property
    def per_point(self) -> float | None:
        """The total over the metric in points (hundredths); None without a metric above 0."""
        return self.total / (100 * self.metric_value) if self.metric_value > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"schema_version": 1, **asdict(self), "total": self.total, "per_point": self.per_point}


def run_cost(events: Iterable[Mapping[str, Any]], prices: Prices, *, run: str = "", stored_bytes: int = 0) -> RunCost:
    """Return what a run cost by its events.

    Args:
        events: Run events, in any order.
        prices: The price table.
        run: Its name.
        stored_bytes: What it left in the store.

    Raises:
        ConfigError: The table has no price for an accelerator that was held.
    """
    attempts = read_attempts(events)
    by_stage: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_stage.setdefault(attempt.stage, []).append(attempt)
    metric, value = _metric(attempts)
    return RunCost(
        run=run,
        currency=prices.currency,
        stages=[_stage_cost(name, tries, prices) for name, tries in by_stage.items()],
        stored_bytes=stored_bytes,
        stored_cost=prices.storage_cost(stored_bytes=stored_bytes),
        metric=metric,
        metric_value=value,
    )


def _stage_cost(name: str, tries: list[Attempt], prices: Prices) -> StageCost:
    read_bytes = sum(attempt.read_bytes for attempt in tries)
    written_bytes = sum(attempt.written_bytes for attempt in tries)
    cost = prices.storage_cost(read_bytes=read_bytes, written_bytes=written_bytes)
    cost += sum(prices.cost(attempt.elapsed_s, **asdict(attempt.resources)) for attempt in tries)
    return StageCost(
        stage=name,
        try_count=len(tries),
        elapsed_s=round(sum(attempt.elapsed_s for attempt in tries), 3),
        cpu_s=round(sum(attempt.elapsed_s * attempt.resources.cpu_count for attempt in tries), 3),
        accelerator_s=round(sum(attempt.elapsed_s * attempt.resources.accelerator_count for attempt in tries), 3),
        accelerator_type=next(
            (attempt.resources.accelerator_type for attempt in tries if attempt.resources.accelerator_count), ""
        ),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
        cost=cost,
    )


def _metric(attempts: list[Attempt]) -> tuple[str, float]:
    """Return the key figure of validate_model, as the run's table shows it."""
    for attempt in reversed(attempts):
        if attempt.stage == "validate_model" and attempt.status == "done":
            name, value = next(iter(attempt.figures.items()), ("", 0.0))
            return (name, float(value)) if isinstance(value, (int, float)) else ("", 0.0)
    return "", 0.0
