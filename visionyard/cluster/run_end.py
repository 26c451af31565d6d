"""What is done when a run has ended, well or badly: its cost is worked out and kept, and people are told."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from visionyard import events, storage
from visionyard.atomic import write_atomic
from visionyard.cluster.cost_records import keep_cost
from visionyard.cluster.costs import PRICES_VARIABLE, RunCost, load_prices, run_cost
from visionyard.cluster.notifications import channels_from, notify
from visionyard.cluster.outcome import Outcome, read_outcome
from visionyard.errors import VisionyardError

UI_VARIABLE = "VISIONYARD_UI_URL"
ONLY_FAILURES = "failure"
WHEN = ("always", ONLY_FAILURES)


@dataclass(frozen=True)
class RunEnd:
    """What came of it.

    Attributes:
        outcome: How the run ended.
        told_count: Channels that took the notification.
    """

    outcome: Outcome
    told_count: int

    def write(self, path: Path) -> None:
        """Write the outcome as JSON."""
        write_atomic(path, json.dumps(self.outcome.to_json(), indent=1, default=str) + "\n")


def tell_end(
    *,
    events_uri: str = "",
    run: str = "",
    title: str = "",
    expected_stages: Sequence[str] = (),
    when: str = "always",
    prices_uri: str = "",
    artifact_uri: str = "",
) -> RunEnd:
    """Work out how a run ended and what it cost, keep the cost, and tell people.

    Nothing that goes wrong here is raised, as the run has ended already: it becomes a warning.

    Args:
        events_uri: Where the run's events lie; empty: where this process's own go.
        run: Name of the run below that address; empty: this process's own.
        title: What people call the run; empty: as `run`.
        expected_stages: Stages without which it is not done.
        when: `always`, or `failure` to keep quiet about a run that is done.
        prices_uri: The price table; empty: the one that VISIONYARD_PRICES names; without one nothing is worked out.
        artifact_uri: Of an artifact of the run: what lies below the part up to the run's id is counted as stored.
    """
    run = run or os.environ.get(events.RUN_VARIABLE, "")
    shown = title or run
    try:
        found = events.read_events(events_uri or os.environ.get(events.EVENTS_VARIABLE, ""), run=run)
    except VisionyardError as error:
        events.warn(f"the run's events cannot be read: {error}")
        found = []
    outcome = read_outcome(found, run=shown, expected_stages=expected_stages, url=_url(run))
    prices_uri = prices_uri or os.environ.get(PRICES_VARIABLE, "")
    if prices_uri:
        outcome = replace(outcome, cost=_cost(found, outcome, prices_uri, _run_root(artifact_uri, run)))
    if not found:
        events.warn(f"{shown or 'the run'}: no events found; set {events.EVENTS_VARIABLE} to an s3:// prefix")
    if when not in WHEN:
        events.warn(f"when = {when!r}: expected {' or '.join(WHEN)}; people are told")
    if when == ONLY_FAILURES and outcome.status == "done":
        return RunEnd(outcome, 0)
    return RunEnd(outcome, _tell(outcome))


def _tell(outcome: Outcome) -> int:
    try:
        channels = channels_from(os.environ)
    except VisionyardError as error:
        events.warn(f"nobody is told: {error}")
        return 0
    problems = notify(outcome, channels)
    for problem in problems:
        events.warn(problem)
    return len(channels) - len(problems)


def _cost(found: list[dict[str, Any]], outcome: Outcome, prices_uri: str, root: str) -> RunCost | None:
    try:
        with TemporaryDirectory(prefix="visionyard-") as folder:
            prices = load_prices(storage.fetch_file(prices_uri, Path(folder) / "prices.yaml"))
        stored_bytes = sum(info.size for info in storage.list_objects(root)) if root else 0
        cost = run_cost(found, prices, run=outcome.run, stored_bytes=stored_bytes)
    except VisionyardError as error:
        events.warn(f"the cost is not known: {error}")
        return None
    for problem in keep_cost(cost, is_done=outcome.status == "done"):
        events.warn(problem)
    return cost


def _run_root(artifact_uri: str, run: str) -> str:
    """Return where all artifacts of a run lie: KFP puts them below the pipeline's name and the run's id."""
    before, found, _ = artifact_uri.partition(f"/{run}/")
    # KFP calls the store of its own installation minio://.
    return f"{before}/{run}".replace("minio://", "s3://", 1) if run and found else ""


def _url(run: str) -> str:
    address = os.environ.get(UI_VARIABLE, "").rstrip("/")
    return f"{address}/#/runs/details/{run}" if address and run else ""
