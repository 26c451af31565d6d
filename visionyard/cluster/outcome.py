"""How a run ended, as its events and exit reports tell it: an exit handler learns nothing of that from the engine."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from visionyard.cluster.attempts import Attempt, read_attempts
from visionyard.cluster.costs import RunCost

# The stage that tells of the end is not over when it looks.
OWN_STAGE = "notify_end"
# A stage whose figure `decision` is `skip` found nothing to do for those after it.
DECISION, SKIP = "decision", "skip"


@dataclass(frozen=True)
class Problem:
    """What went wrong with a stage.

    Attributes:
        stage: Its name.
        exit_class: As in the exit report; `lost` for a stage that started and never ended, `never_started`.
        message: What happened.
        advice: What to do about it.
    """

    stage: str
    exit_class: str
    message: str
    advice: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run: Its name.
        status: `done` or `failed`.
        elapsed_s: From the first stage's start to the last sign of life.
        verdict: `promote` or `reject`; empty when no stage gave one.
        stages: The last try of each stage, in the order of their starts.
        problems: What went wrong; empty when it is done.
        cost: What it cost; None without a price table.
        url: Of its page; empty when unknown.
    """

    run: str
    status: Literal["done", "failed"]
    elapsed_s: float
    verdict: str
    stages: list[Attempt]
    problems: list[Problem]
    cost: RunCost | None = None
    url: str = ""

    @property
    def title(self) -> str:
        """One line: the run, how it ended, the verdict."""
        verdict = f", verdict {self.verdict}" if self.verdict else ""
        return f"{self.run or 'run'}: {self.status}{verdict}"

    def lines(self) -> list[str]:
        """Return what a person reads below the title."""
        lines = [f"{problem.stage} ({problem.exit_class}): {problem.message}" for problem in self.problems]
        lines += [f"What to do: {problem.advice}" for problem in self.problems if problem.advice]
        for attempt in self.stages:
            figures = ", ".join(f"{name} {_short(value)}" for name, value in list(attempt.figures.items())[:4])
            lines.append(
                f"{attempt.stage}: {attempt.status}, {attempt.elapsed_s:.0f} s{': ' if figures else ''}{figures}"
            )
        if self.cost:
            lines.append(f"cost: {self.cost.total:.4f} {self.cost.currency}")
        if self.url:
            lines.append(self.url)
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the body of the generic webhook."""
        return {
            "schema_version": 1,
            "run": self.run,
            "status": self.status,
            "elapsed_s": self.elapsed_s,
            "verdict": self.verdict,
            "problems": [asdict(problem) for problem in self.problems],
            "stages": [
                {"stage": one.stage, "status": one.status, "elapsed_s": one.elapsed_s, "figures": one.figures}
                for one in self.stages
            ],
            "cost": self.cost.to_json() if self.cost else None,
            "url": self.url,
        }


def read_outcome(
    events: Iterable[Mapping[str, Any]],
    *,
    run: str = "",
    expected_stages: Sequence[str] = (),
    url: str = "",
) -> Outcome:
    """Return how a run ended.

    A stage counts by its last try: one that was tried again and succeeded is no problem. One that started and never
    ended was killed. One that was expected and never started is a problem only if nothing before it went wrong, and no
    stage decided that there is nothing to do.

    Args:
        events: Run events, in any order.
        run: Its name.
        expected_stages: Stages without which it is not done, none that a cache may answer for; the first that is
            missing is named.
        url: Of its page.
    """
    attempts = [attempt for attempt in read_attempts(events) if attempt.stage != OWN_STAGE]
    last = {attempt.stage: attempt for attempt in attempts}
    stages = sorted(last.values(), key=lambda attempt: attempt.started)
    problems = [_problem(attempt) for attempt in stages if attempt.status != "done"]
    missing = [name for name in expected_stages if name not in last]
    is_skipped = any(attempt.figures.get(DECISION) == SKIP for attempt in stages)
    if missing and not problems and not is_skipped:
        problems.append(_never_started(missing[0], stages))
    verdicts = [str(attempt.figures["verdict"]) for attempt in stages if "verdict" in attempt.figures]
    return Outcome(
        run=run,
        status="failed" if problems else "done",
        elapsed_s=round(max((one.last_seen for one in attempts), default=0) - attempts[0].started, 3)
        if attempts
        else 0,
        verdict=verdicts[-1] if verdicts else "",
        stages=stages,
        problems=problems,
        url=url,
    )


def _never_started(name: str, stages: Sequence[Attempt]) -> Problem:
    before = f" after {stages[-1].stage}" if stages else ""
    return Problem(
        name,
        "never_started",
        f"it never started, and nothing else did{before}: the run was cancelled, there was no room for a pod, or an "
        "image or a secret is missing",
        "look at the events of the pods that wait, and at the drivers' pods before them",
    )


def _problem(attempt: Attempt) -> Problem:
    if attempt.report:
        report = attempt.report
        return Problem(
            attempt.stage, report.get("exit_class", "bug"), report.get("message", ""), report.get("advice", "")
        )
    seen = datetime.fromtimestamp(attempt.last_seen, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Problem(
        attempt.stage,
        "lost",
        f"it started and never ended; its last sign of life was at {seen}, {attempt.elapsed_s:.0f} s after its start",
        "it was killed from outside: give it more memory if that is scarce (look for OOMKilled), or submit the run "
        "again if its node went away; it goes on where it stopped",
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
