"""`visionyard cost`: what runs cost, and which way of serving costs less."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from visionyard.events import RUN_VARIABLE

if TYPE_CHECKING:
    from visionyard.cli.run_folder import RunFolder
    from visionyard.cluster.advice import Advice, Assumptions
    from visionyard.cluster.costs import Prices, RunCost

cost_app = typer.Typer(help="What runs cost, and which way of serving costs less.", no_args_is_help=True)
output = Console(highlight=False)

PricesOption = Annotated[Path, typer.Option("--prices", help="The price table.", envvar="VISIONYARD_PRICES")]


@cost_app.command(name="report")
def cost_report(
    run: Annotated[
        str, typer.Argument(help="A run: its folder or name, or its id below --events; empty: the newest.")
    ] = "",
    *,
    prices: PricesOption,
    runs: Annotated[Path, typer.Option("--runs", help="Folder that holds all runs.", envvar="VISIONYARD_RUNS")] = Path(
        "runs"
    ),
    events: Annotated[
        str, typer.Option("--events", help="s3:// prefix that holds the events of a cluster's runs.")
    ] = "",
    store: Annotated[str, typer.Option("--store", help="s3:// prefix of what the run left; counted as stored.")] = "",
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    textfile: Annotated[
        Path | None, typer.Option("--textfile", help="Also write a .prom file for Prometheus's node exporter.")
    ] = None,
    is_kept: Annotated[
        bool, typer.Option("--keep", help="Also log to MLFLOW_TRACKING_URI and push to PUSHGATEWAY_URL, where set.")
    ] = False,
) -> None:
    """Say what a run cost: seconds held and bytes stored, times the price table."""
    import json

    from visionyard.atomic import write_atomic
    from visionyard.cluster.cost_records import exposition, keep_cost
    from visionyard.cluster.costs import load_prices

    cost = _run_cost(run, load_prices(prices), runs=runs, events=events, store=store)
    if textfile:
        write_atomic(textfile, exposition(cost))
    if is_kept:
        # By its name the run is found in MLflow.
        os.environ[RUN_VARIABLE] = cost.run
        for problem in keep_cost(cost, is_done=True):
            output.print(problem, style="yellow", soft_wrap=True, markup=False)
    if is_json:
        output.print(json.dumps(cost.to_json(), indent=1), markup=False, soft_wrap=True)
    else:
        _print_cost(cost)


def local_cost(folder: "RunFolder") -> "RunCost | None":
    """Return what a local run cost; None where VISIONYARD_PRICES names no price table.

    Raises:
        ConfigError: The price table is missing or wrong, or lacks a price.
    """
    from visionyard.cluster.costs import PRICES_VARIABLE, load_prices, run_cost
    from visionyard.events import read_events

    path = os.environ.get(PRICES_VARIABLE, "")
    return run_cost(read_events(folder.events), load_prices(path), run=folder.name) if path else None


def _run_cost(run: str, prices: "Prices", *, runs: Path, events: str, store: str) -> "RunCost":
    from visionyard import storage
    from visionyard.cli.run_folder import find_run
    from visionyard.cluster.costs import run_cost
    from visionyard.errors import ConfigError
    from visionyard.events import read_events

    if events:
        name, found = run, read_events(events, run=run)
        where = storage.shown(events)
    else:
        folder = find_run(runs, run)
        name, found, where = folder.name, read_events(folder.events), str(folder.events)
    if not found:
        raise ConfigError(f"{where}: no events of run {name!r} there; name another run, or --events")
    stored_bytes = sum(info.size for info in storage.list_objects(store)) if store else 0
    return run_cost(found, prices, run=name, stored_bytes=stored_bytes)


def _print_cost(cost: "RunCost") -> None:
    table = Table(title=f"{cost.run}: {cost.total:.4f} {cost.currency}", title_justify="left", box=None, pad_edge=False)
    for heading in ("Stage", "Tries", "Time s", "Core s", "GPU s", "GPU", "Read MB", "Written MB", cost.currency):
        table.add_column(heading, justify="left" if heading in {"Stage", "GPU"} else "right")
    for stage in cost.stages:
        table.add_row(
            stage.stage,
            str(stage.try_count),
            f"{stage.elapsed_s:.1f}",
            f"{stage.cpu_s:.1f}",
            f"{stage.accelerator_s:.1f}",
            stage.accelerator_type,
            f"{stage.read_bytes / 1e6:.1f}",
            f"{stage.written_bytes / 1e6:.1f}",
            f"{stage.cost:.4f}",
        )
    if cost.stored_bytes:
        table.add_row("stored", "", "", "", "", "", "", f"{cost.stored_bytes / 1e6:.1f}", f"{cost.stored_cost:.4f}")
    output.print(table)
    if cost.per_point is not None:
        output.print(
            f"{cost.per_point:.6f} {cost.currency} for each point of {cost.metric} ({cost.metric_value:.4f})",
            markup=False,
        )


@cost_app.command(name="advise")
def cost_advise(
    log: Annotated[Path, typer.Argument(help="The model server's log: JSON lines.")],
    *,
    prices: PricesOption,
    model: Annotated[str, typer.Option(help="Only requests of this model.")] = "",
    node: Annotated[str, typer.Option(help="Node type of a dedicated replica, as in node_hour.")] = "",
    cpu_count: Annotated[float, typer.Option("--cpu", help="Cores of a replica, where no node type is named.")] = 2.0,
    memory_gb: Annotated[float, typer.Option("--memory-gb", help="Memory of a replica, likewise.")] = 4.0,
    accelerator: Annotated[str, typer.Option(help="One accelerator of a replica, as in accelerator_hour.")] = "",
    cold_start_s: Annotated[
        float | None,
        typer.Option("--cold-start-s", help="Until a new instance answers; else what the log tells, or 10."),
    ] = None,
    idle_s: Annotated[
        float, typer.Option("--idle-s", help="An instance is paid so long after its last request.")
    ] = 300.0,
    places: Annotated[int, typer.Option(help="Requests that an instance works on at a time.")] = 1,
    utilisation: Annotated[float, typer.Option(help="Of a dedicated replica in the busiest minute.")] = 0.7,
) -> None:
    """Say whether serverless or dedicated serving costs less for the traffic of a log."""
    from visionyard.cluster.advice import (
        DEFAULT_COLD_START_S,
        SHORTEST_SPAN_S,
        Assumptions,
        advise,
        read_lines,
        read_request_log,
    )
    from visionyard.cluster.costs import load_prices

    table = load_prices(prices)
    found = read_request_log(read_lines(log), model=model)
    cold = next(one for one in (cold_start_s, found.cold_start_s, DEFAULT_COLD_START_S) if one is not None)
    assumptions = Assumptions(cold_start_s=cold, idle_s=idle_s, places=places, utilisation=utilisation)
    hourly = (
        table.node_price(node)
        if node
        else table.cost(
            3600.0,
            cpu_count=cpu_count,
            memory_bytes=memory_gb * 1e9,
            accelerator_type=accelerator,
            accelerator_count=1 if accelerator else 0,
        )
    )
    _print_advice(advise(found, table, assumptions, replica_hour=hourly), assumptions, replica_hour=hourly)
    if found.span_s < SHORTEST_SPAN_S:
        output.print("the log covers less than a day: quiet hours, which decide, may be missing", style="yellow")
    if found.skipped_count:
        output.print(f"{found.skipped_count} lines are no JSON and were left out", style="yellow")


def _print_advice(advice: "Advice", assumptions: "Assumptions", *, replica_hour: float) -> None:
    played = advice.serverless
    waiting = played.cold_start_count / advice.request_count
    money = advice.currency
    lines = [
        (
            f"{advice.choice}: {advice.serverless_month:.2f} {money} a month serverless, "
            f"{advice.dedicated_month:.2f} dedicated"
        ),
        f"{advice.request_count} requests in {advice.span_s / 3600:.1f} h",
        (
            f"serverless: {played.instance_s:.0f} s paid, up to {played.most_instances} instances; "
            f"{played.cold_start_count} requests ({waiting:.1%}) wait {assumptions.cold_start_s:g} s for a cold start"
        ),
        (
            f"dedicated: {advice.replica_count} x {replica_hour:.3f} {money} an hour, at most "
            f"{assumptions.utilisation:.0%} busy in the busiest minute"
        ),
        f"assumed: {assumptions.places} at a time, an instance stays {assumptions.idle_s:g} s after its last request",
    ]
    if advice.break_even_per_day:
        lines.append(f"the same cost at {advice.break_even_per_day:.0f} requests a day")
    for line in lines:
        output.print(line, markup=False, soft_wrap=True)
