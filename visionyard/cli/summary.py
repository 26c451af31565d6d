"""What a run prints at its end: the table, the paths, the next commands; or what failed and what to do."""

import os
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from visionyard.cli.cost import local_cost
from visionyard.cli.live_view import RunView, figure_text
from visionyard.cli.report import rebuild_report
from visionyard.cli.run_folder import RunFolder
from visionyard.cli.words import format_duration, format_figure
from visionyard.config import RunConfig
from visionyard.errors import ConfigError


def print_success(console: Console, view: RunView, folder: RunFolder, config: RunConfig) -> None:
    """Print stage, time and key figure of each stage, where things are, and what to do next."""
    table = Table(
        title=f"{folder.name}: done", title_style="bold green", title_justify="left", box=None, pad_edge=False
    )
    for heading, justify in (("Stage", "left"), ("Time", "right"), ("Key figure", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for state in view.states.values():
        name, value = next(iter(state.figures.items()), ("", ""))
        time_text = format_duration(state.elapsed_s) if state.elapsed_s else ""
        table.add_row(state.info.title, time_text, f"{name.replace('_', ' ')} {format_figure(value)}".strip())
    console.print(table)
    console.print()
    console.print(f"Report   {_short(folder.report)}", highlight=False, soft_wrap=True)
    console.print(f"Bundle   {_short(folder.path / 'bundle')}", highlight=False, soft_wrap=True)
    if (folder.path / "verdict").exists():
        console.print(f"Verdict  {_short(folder.path / 'verdict' / 'verdict.md')}", highlight=False, soft_wrap=True)
    _tell_cost(console, folder)
    console.print()
    console.print("Next:", highlight=False)
    command = program_name()
    bundle = _short(folder.path / "bundle")
    for line in (
        f"{command} report {folder.name}",
        f"{command} predict {bundle} {config.data.source}",
        f"{command} benchmark {bundle}",
    ):
        console.print(f"  {line}", style="cyan", highlight=False, soft_wrap=True)


def _tell_cost(console: Console, folder: RunFolder) -> None:
    """Print what the run cost and put it into its report, where there is a price table; a wrong one is told."""
    try:
        cost = local_cost(folder)
        if cost is None:
            return
        rebuild_report(folder)
    except ConfigError as error:
        console.print(f"Cost     not known: {error}", style="yellow", markup=False, soft_wrap=True)
        return
    console.print(f"Cost     {cost.total:.4f} {cost.currency}", highlight=False, markup=False, soft_wrap=True)


def print_failure(console: Console, view: RunView, folder: RunFolder) -> None:
    """Print what failed, why, what to do, and where the log is."""
    failed = [state for state in view.states.values() if state.status == "failed"]
    lost = [state for state in view.states.values() if state.status == "running"]
    for state in failed:
        report = state.report or {}
        console.print(f"{state.info.title} failed ({report.get('exit_class', 'unknown')})", style="bold red")
        console.print(str(report.get("message", "")), highlight=False, markup=False, soft_wrap=True)
        console.print(f"What to do: {report.get('advice', '')}", highlight=False, markup=False, soft_wrap=True)
    for state in lost:
        console.print(f"{state.info.title} started and never ended: its process was killed", style="bold red")
        console.print("What to do: give it more memory if that is scarce, then run the same command again")
    if not failed and not lost:
        console.print("The pipeline failed before a stage started", style="bold red")
        console.print(log_tail(folder.log), highlight=False, markup=False, soft_wrap=True)
    console.print(f"Log: {_short(folder.log)}", highlight=False, soft_wrap=True)


def print_waiting(console: Console, folder: RunFolder) -> None:
    """Print that the promotion waits for a person, and how it is approved."""
    console.print()
    console.print("The promotion waits for a person's approval:", style="yellow", highlight=False)
    console.print(f"  {program_name()} approve {folder.name} --by NAME", style="cyan", highlight=False, soft_wrap=True)
    console.print("then run the same command again; it goes on with this run.", highlight=False)


def print_stopped(console: Console, folder: RunFolder) -> None:
    """Print that the run was stopped and how it goes on."""
    console.print(f"{folder.name}: stopped. The same command goes on where it stopped.", style="yellow")


def print_notes(console: Console, view: RunView) -> None:
    """Print the stages' warnings once more; a live view leaves none behind."""
    for state in view.states.values():
        for message in state.warnings:
            console.print(f"{state.info.title}: note: {message}", style="yellow", highlight=False, soft_wrap=True)


def print_stage_lines(console: Console, view: RunView) -> None:
    """Print a line for each stage that ended, as the live view is gone."""
    for state in view.states.values():
        if state.status in {"done", "failed"}:
            mark = "✓" if state.status == "done" else "✗"
            time_text = format_duration(state.elapsed_s)
            console.print(f"{mark} {state.info.title:<16} {time_text:>9}  {figure_text(state)}", highlight=False)


def log_tail(path: Path, line_count: int = 15) -> str:
    """Return the last lines of a log that are not KFP's own."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return "\n".join([line for line in lines if "[KFP Executor" not in line and line.strip()][-line_count:])


def program_name() -> str:
    """Return how this program can be called again from the same folder."""
    if shutil.which("visionyard") or not sys.argv[0].endswith("visionyard"):
        return "visionyard"
    return os.path.relpath(sys.argv[0])


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
