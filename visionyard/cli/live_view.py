"""The live view of a run: stages, bars with rate and time left, the training's loss and metric, from run events."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from visionyard.cli.stages import StageInfo
from visionyard.cli.words import format_duration, format_figure, plural

_MARKS = {"waiting": ("·", "dim"), "running": ("●", "cyan"), "done": ("✓", "green"), "failed": ("✗", "red")}
# Rates over the last seconds follow a change of pace; over the whole stage they would lag behind it.
_RATE_WINDOW_S = 20.0


@dataclass
class StageState:
    """What is known of a stage from its events."""

    info: StageInfo
    status: str = "waiting"
    started: float = 0.0
    elapsed_s: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    done: int = 0
    total: int | None = None
    unit: str = ""
    label: str = ""
    epoch_text: str = ""
    warnings: list[str] = field(default_factory=list)
    report: dict[str, Any] | None = None
    marks: list[tuple[float, int]] = field(default_factory=list)

    def apply(self, event: dict[str, Any]) -> None:
        """Take in one event of this stage."""
        kind = event["kind"]
        if kind == "stage_started":
            self.__init__(self.info, status="running", started=event["time"])  # type: ignore[misc]
        elif kind == "progress":
            self.done, self.total, self.unit, self.label = (event[key] for key in ("done", "total", "unit", "label"))
            self.marks.append((event["time"], self.done))
            while self.marks[0][0] < event["time"] - _RATE_WINDOW_S:
                self.marks.pop(0)
        elif kind == "epoch":
            metrics = " ".join(f"{name} {value:.4g}" for name, value in key_metrics(event["metrics"]))
            self.epoch_text = f"epoch {event['epoch']}/{event['epoch_count']} {metrics}"
        elif kind == "warning":
            self.warnings.append(event["message"])
        elif kind in {"stage_finished", "stage_failed"}:
            self.status = "done" if kind == "stage_finished" else "failed"
            self.elapsed_s = event["elapsed_s"]
            self.figures = event.get("figures", {})
            self.report = event.get("report")

    def rate(self) -> float:
        """Units a second over the last seconds; 0 when not known."""
        if len(self.marks) < 2:
            return 0.0
        (first_time, first), (last_time, last) = self.marks[0], self.marks[-1]
        return max(0.0, (last - first) / (last_time - first_time)) if last_time > first_time else 0.0


def key_metrics(metrics: dict[str, float]) -> list[tuple[str, float]]:
    """Return the few metrics of an epoch worth a line: the training loss and the main validation metric."""
    losses = [name for name in metrics if name in {"train_loss", "train_box_loss", "train_cls_loss"}]
    mains = [name for name in ("map_50", "map_50_95", "top_1") if name in metrics]
    return [(name, metrics[name]) for name in losses[:1] + mains[:2]]


class RunView:
    """Draws a run on a terminal, or prints a line for each step where there is none."""

    def __init__(self, stages: Sequence[StageInfo], console: Console) -> None:
        """Watch `stages`, drawn on `console`."""
        self.states = {stage.name: StageState(stage) for stage in stages}
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._render, transient=True)

    def __enter__(self) -> "RunView":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def apply(self, event: dict[str, Any], *, is_new: bool = True) -> None:
        """Take in one event; `is_new` is False for those of an earlier try, which are not printed again."""
        state = self.states.get(event.get("stage", ""))
        if state is None:
            return
        state.apply(event)
        if is_new and not self._console.is_terminal:
            self._print_step(state, event["kind"])

    def _print_step(self, state: StageState, kind: str) -> None:
        title = state.info.title
        if kind == "stage_started":
            self._say(f"{title}: started")
        elif kind == "epoch":
            self._say(f"{title}: {state.epoch_text}")
        elif kind == "warning":
            self._say(f"{title}: note: {state.warnings[-1]}")
        elif kind == "stage_finished":
            text = f"{title}: done in {format_duration(state.elapsed_s)}"
            self._say(f"{text}; {figure_text(state)}".rstrip("; "))
        elif kind == "stage_failed":
            self._say(f"{title}: failed after {format_duration(state.elapsed_s)}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _render(self) -> Group:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=1)
        grid.add_column(min_width=15)
        grid.add_column(min_width=7, justify="right")
        grid.add_column(ratio=1)
        for state in self.states.values():
            mark, style = _MARKS[state.status]
            grid.add_row(Text(mark, style), Text(state.info.title, _title_style(state)), _time(state), _detail(state))
        return Group(grid)


def figure_text(state: StageState, *, at_most: int | None = None) -> str:
    """Return a finished stage's figures, or its first ones, as `name value` pairs."""
    figures = list(state.figures.items())[:at_most]
    return ", ".join(f"{name.replace('_', ' ')} {format_figure(value)}" for name, value in figures)


def _title_style(state: StageState) -> str:
    return {"waiting": "dim", "running": "bold", "failed": "bold red"}.get(state.status, "")


def _time(state: StageState) -> Text:
    if state.status == "running":
        return Text(format_duration(time.time() - state.started), "cyan")
    return Text(format_duration(state.elapsed_s) if state.elapsed_s else "", "dim")


def _detail(state: StageState) -> Any:
    if state.status == "done":
        return Text(figure_text(state, at_most=3), "dim")
    if state.status == "failed":
        return Text(state.report["exit_class"] if state.report else "", "red")
    if state.status != "running" or not state.unit:
        return Text(state.label, "dim")
    rate = state.rate()
    words = [f"{state.done}{f'/{state.total}' if state.total else ''} {plural(state.unit)}"]
    if rate:
        words.append(f"{rate:.3g}/s")
    if rate and state.total:
        words.append(f"{format_duration((state.total - state.done) / rate)} left")
    words.append(state.epoch_text or state.label)
    line = Table.grid(padding=(0, 1))
    if state.total:
        line.add_row(ProgressBar(total=state.total, completed=state.done, width=24), Text("  ".join(words)))
    else:
        line.add_row(Text("  ".join(words)))
    return line
