"""Where the cost of a run is kept: in MLflow beside its metrics, and in Prometheus by way of a Pushgateway."""

import os
from urllib.parse import quote

from urllib3.exceptions import HTTPError

from visionyard import tracking
from visionyard.cluster.costs import RunCost
from visionyard.cluster.sending import RefusedError, send
from visionyard.storage import shown
from visionyard.storage.base import connection_fault

PUSHGATEWAY_VARIABLE = "PUSHGATEWAY_URL"


def keep_cost(cost: RunCost, *, is_done: bool) -> list[str]:
    """Log a run's cost to MLflow where MLFLOW_TRACKING_URI is set, and push it where PUSHGATEWAY_URL is.

    Args:
        cost: What is kept.
        is_done: Whether the run ended well, which MLflow shows.

    Returns:
        A sentence when pushing failed; MLflow's faults are warnings of the stage.
    """
    tracking.log_figures(cost_figures(cost), tags={"cost_currency": cost.currency}, is_done=is_done)
    address = os.environ.get(PUSHGATEWAY_VARIABLE, "").strip()
    return push(cost, address) if address else []


def cost_figures(cost: RunCost) -> dict[str, float]:
    """Return the figures that are kept, by name."""
    figures = {
        "cost_total": cost.total,
        "cost_stored": cost.stored_cost,
        "cost_cpu_s": cost.cpu_s,
        "cost_accelerator_s": cost.accelerator_s,
        "cost_read_bytes": float(sum(stage.read_bytes for stage in cost.stages)),
        "cost_written_bytes": float(sum(stage.written_bytes for stage in cost.stages)),
        "cost_stored_bytes": float(cost.stored_bytes),
        **{f"cost_{stage.stage}": stage.cost for stage in cost.stages},
    }
    if cost.per_point is not None:
        figures["cost_per_point"] = cost.per_point
    return figures


def exposition(cost: RunCost) -> str:
    """Return the cost as Prometheus's text format, for a Pushgateway or the node exporter's text files."""
    run = {"run": cost.run}
    money = {**run, "currency": cost.currency}
    lines = [
        *_gauge("visionyard_run_cost", "What the run cost.", [(money, cost.total)]),
        *_gauge(
            "visionyard_run_stage_cost",
            "What a stage of the run cost.",
            [({**money, "stage": stage.stage}, stage.cost) for stage in cost.stages],
        ),
        *_gauge("visionyard_run_cpu_seconds", "Cores times seconds held.", [(run, cost.cpu_s)]),
        *_gauge("visionyard_run_accelerator_seconds", "Accelerators times seconds held.", [(run, cost.accelerator_s)]),
        *_gauge("visionyard_run_stored_bytes", "Bytes left in the store.", [(run, cost.stored_bytes)]),
    ]
    if cost.per_point is not None:
        labels = {**money, "metric": cost.metric}
        lines += _gauge("visionyard_run_cost_per_point", "Cost over the metric in points.", [(labels, cost.per_point)])
    return "\n".join(lines) + "\n"


def _gauge(name: str, help_text: str, rows: list[tuple[dict[str, str], float]]) -> list[str]:
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
    for labels, value in rows:
        shown_labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{shown_labels}}} {float(value)!r}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def push(cost: RunCost, address: str) -> list[str]:
    """Put the cost into a Pushgateway as the group of its run; an earlier push of the run is replaced.

    Returns:
        A sentence when it failed, else none.
    """
    # A group's label may hold a slash only in base64, which no run name needs: others are escaped.
    url = f"{address.rstrip('/')}/metrics/job/visionyard_run/run/{quote(cost.run or 'run', safe='')}"
    try:
        send("PUT", url, exposition(cost).encode(), {"Content-Type": "text/plain; version=0.0.4"})
    except RefusedError as error:
        return [f"the cost was not pushed to {shown(address)}: {error}"]
    except HTTPError as error:
        return [f"the cost was not pushed to {shown(address)}: {connection_fault(error)}"]
    return []
