"""What became of every try of every stage, read from a run's events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from visionyard.stage_resources import StageResources

Status = Literal["done", "failed", "lost"]


@dataclass(frozen=True)
class Attempt:
    """One try of a stage.

    Attributes:
        stage: Its name.
        status: `done`, `failed` with a report, or `lost`: it started and never ended.
        started: Seconds since 1970.
        elapsed_s: Until its end; of a lost one until its last sign of life.
        resources: What its container held.
        figures: Of one that is done.
        report: The exit report of one that failed, else empty.
        warnings: What it told beside.
        read_bytes: From the object store.
        written_bytes: To it.
    """

    stage: str
    status: Status
    started: float
    elapsed_s: float
    resources: StageResources
    figures: dict[str, Any] = field(default_factory=dict)
    report: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    read_bytes: int = 0
    written_bytes: int = 0

    @property
    def last_seen(self) -> float:
        """When it gave its last sign of life, in seconds since 1970."""
        return self.started + self.elapsed_s


def read_attempts(events: Iterable[Mapping[str, Any]]) -> list[Attempt]:
    """Return every try of every stage in the order in which they started.

    Args:
        events: Run events in any order; those of several runs mixed are not told apart.
    """
    ordered = sorted((event for event in events if event.get("stage")), key=lambda event: float(event["time"]))
    open_now: dict[str, list[Mapping[str, Any]]] = {}
    groups: list[list[Mapping[str, Any]]] = []
    for event in ordered:
        key = str(event.get("attempt") or event["stage"])
        if event["kind"] == "stage_started":
            open_now[key] = []
            groups.append(open_now[key])
        if key in open_now:
            open_now[key].append(event)
    return [_attempt(group) for group in groups]


def _attempt(group: list[Mapping[str, Any]]) -> Attempt:
    first, last = group[0], group[-1]
    ends = [event for event in group if event["kind"] in {"stage_finished", "stage_failed"}]
    end: Mapping[str, Any] = ends[-1] if ends else {}
    statuses: dict[str | None, Status] = {"stage_finished": "done", "stage_failed": "failed"}
    usage = end.get("usage", {})
    return Attempt(
        stage=str(first["stage"]),
        status=statuses.get(end.get("kind"), "lost"),
        started=float(first["time"]),
        elapsed_s=float(end["elapsed_s"]) if end else round(float(last["time"]) - float(first["time"]), 3),
        resources=StageResources(**first.get("resources", {})),
        figures=dict(end.get("figures", {})),
        report=dict(end.get("report", {})),
        warnings=tuple(str(event["message"]) for event in group if event["kind"] == "warning"),
        read_bytes=int(usage.get("read_bytes", 0)),
        written_bytes=int(usage.get("written_bytes", 0)),
    )
