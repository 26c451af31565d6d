"""Serverless or dedicated: what a server's request log would have cost either way, by a model that is stated.

Serverless: each request goes to the instance with a free place that was used last, else a new instance is started and
the request waits for it; an instance is paid from its start until it has been idle for a while. Dedicated: as many
replicas as the busiest minute needs at a utilisation that leaves room, all the time. Both take a request to be busy for
the duration in the log.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from visionyard.cluster.costs import Prices
from visionyard.errors import ConfigError, DataError

MONTH_S = 30 * 86400.0
DEFAULT_COLD_START_S = 10.0
# Below a day a log does not show the quiet hours, which decide.
SHORTEST_SPAN_S = 86400.0


@dataclass(frozen=True, order=True)
class LoggedRequest:
    """A request of the log: when it began, in seconds since 1970, and how long it was busy."""

    start: float
    busy_s: float


@dataclass(frozen=True)
class RequestLog:
    """What a log tells.

    Attributes:
        requests: In the order of their starts.
        skipped_count: Lines that are no JSON.
        cold_start_s: The longest time from start to ready that the server told; None when it told none.
    """

    requests: list[LoggedRequest]
    skipped_count: int
    cold_start_s: float | None

    @property
    def span_s(self) -> float:
        """From the first request's start to the last one's end."""
        return max(one.start + one.busy_s for one in self.requests) - self.requests[0].start


@dataclass(frozen=True)
class Assumptions:
    """What the model takes for granted.

    Attributes:
        cold_start_s: From the first request to a new instance that answers.
        idle_s: An instance is kept and paid so long after its last request.
        places: Requests that an instance or replica works on at a time.
        utilisation: Of a dedicated replica in the busiest minute, in (0, 1].

    Raises:
        ConfigError: A value is out of its range.
    """

    cold_start_s: float = DEFAULT_COLD_START_S
    idle_s: float = 300.0
    places: int = 1
    utilisation: float = 0.7

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {value}: expected {expected}"
            for name, value, expected, is_right in (
                ("cold_start_s", self.cold_start_s, "0 or more", self.cold_start_s >= 0),
                ("idle_s", self.idle_s, "0 or more", self.idle_s >= 0),
                ("places", self.places, "1 or more", self.places >= 1),
                ("utilisation", self.utilisation, "above 0, at most 1", 0 < self.utilisation <= 1),
            )
            if not is_right
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True)
class Serverless:
    """How a serverless offer would have done.

    Attributes:
        instance_s: Paid seconds of all instances.
        cold_start_count: Requests that waited for a new instance.
        most_instances: At a time.
    """

    instance_s: float
    cold_start_count: int
    most_instances: int


@dataclass(frozen=True)
class Advice:
    """Which of the two, and the figures behind it.

    Attributes:
        choice: `serverless` or `dedicated`.
        serverless_month: Cost of 30 days like the log.
        dedicated_month: The same.
        break_even_per_day: Requests a day, spread as in the log, at which both cost the same; None when a request
            costs nothing.
        serverless: How it would have done over the log.
        replica_count: Dedicated replicas.
        request_count: Of the log.
        span_s: Time the log covers.
        currency: Of all costs.
    """

    choice: str
    serverless_month: float
    dedicated_month: float
    break_even_per_day: float | None
    serverless: Serverless
    replica_count: int
    request_count: int
    span_s: float
    currency: str


def read_request_log(lines: Iterable[str], *, model: str = "") -> RequestLog:
    """Read a model server's log.

    Args:
        lines: JSON lines, as the server writes them; others are counted and left out.
        model: Only requests of this model; empty: of all.

    Raises:
        DataError: There is no request of a model in it.
    """
    requests, skipped, cold_start_s = [], 0, None
    for line in lines:
        values = _values(line)
        if values is None:
            skipped += bool(line.strip())
            continue
        if values.get("event") == "ready" and isinstance(values.get("since_start_s"), (int, float)):
            cold_start_s = max(cold_start_s or 0.0, float(values["since_start_s"]))
        request = _request(values, model)
        if request:
            requests.append(request)
    if not requests:
        about = f"of model {model!r} " if model else ""
        raise DataError(
            f"no request {about}in the log ({skipped} lines are no JSON); expected the lines that `visionyard serve` "
            "writes to standard error, with log_level info"
        )
    return RequestLog(sorted(requests), skipped, cold_start_s)


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a log file.

    Raises:
        ConfigError: There is no such file.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            yield from stream
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _values(line: str) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def _request(values: dict[str, Any], model: str) -> LoggedRequest | None:
    if values.get("event") != "request" or "model" not in values or (model and values["model"] != model):
        return None
    try:
        busy_s = float(values["duration_ms"]) / 1000
        # The line is written at the end.
        return LoggedRequest(datetime.fromisoformat(str(values["time"])).timestamp() - busy_s, busy_s)
    except (KeyError, TypeError, ValueError):
        return None


@dataclass
class _Instance:
    up_since: float
    ends: list[float]

    @property
    def last_end(self) -> float:
        return max(self.ends)


def simulate(requests: Iterable[LoggedRequest], assumptions: Assumptions) -> Serverless:
    """Play requests, in the order of their starts, against instances that come and go."""
    up: list[_Instance] = []
    paid = 0.0
    cold = most = 0
    for request in requests:
        gone = [one for one in up if one.last_end + assumptions.idle_s <= request.start]
        paid += sum(one.last_end + assumptions.idle_s - one.up_since for one in gone)
        up = [one for one in up if one not in gone] if gone else up
        for instance in up:
            instance.ends = [end for end in instance.ends if end > request.start] or [instance.last_end]
        free = [one for one in up if sum(end > request.start for end in one.ends) < assumptions.places]
        if free:
            max(free, key=lambda one: one.last_end).ends.append(request.start + request.busy_s)
        else:
            cold += 1
            up.append(_Instance(request.start, [request.start + assumptions.cold_start_s + request.busy_s]))
            most = max(most, len(up))
    paid += sum(one.last_end + assumptions.idle_s - one.up_since for one in up)
    return Serverless(round(paid, 3), cold, most)


def replicas_needed(requests: Iterable[LoggedRequest], assumptions: Assumptions) -> int:
    """Return the dedicated replicas that the busiest minute needs; at least one."""
    busy: defaultdict[int, float] = defaultdict(float)
    for request in requests:
        start, end = request.start, request.start + request.busy_s
        for minute in range(int(start // 60), int(end // 60) + 1):
            busy[minute] += max(0.0, min(end, (minute + 1) * 60.0) - max(start, minute * 60.0))
    peak = max(busy.values(), default=0.0) / 60
    return max(1, math.ceil(round(peak / assumptions.places / assumptions.utilisation, 9)))


def advise(log: RequestLog, prices: Prices, assumptions: Assumptions, *, replica_hour: float) -> Advice:
    """Return which of the two costs less for traffic like a log's.

    Args:
        log: At least one request.
        prices: With a serverless offer.
        assumptions: Of the model.
        replica_hour: What a dedicated replica costs an hour.

    Raises:
        ConfigError: The price table has no serverless offer.
    """
    if prices.serverless is None:
        raise ConfigError("serverless: missing in the price table; the advice needs serverless.instance_second")
    # A log of a few minutes is one of at least an hour: what came before and after is not known to be idle.
    span_s = max(log.span_s, 3600.0)
    played = simulate(log.requests, assumptions)
    count = len(log.requests)
    months = MONTH_S / span_s
    serverless = played.instance_s * prices.serverless.instance_second
    serverless = (serverless + count / 1e6 * prices.serverless.million_requests) * months
    replicas = replicas_needed(log.requests, assumptions)
    dedicated = replicas * replica_hour * MONTH_S / 3600
    each = serverless / (count * months)
    return Advice(
        choice="serverless" if serverless < dedicated else "dedicated",
        serverless_month=serverless,
        dedicated_month=dedicated,
        break_even_per_day=dedicated / 30 / each if each else None,
        serverless=played,
        replica_count=replicas,
        request_count=count,
        span_s=log.span_s,
        currency=prices.currency,
    )
