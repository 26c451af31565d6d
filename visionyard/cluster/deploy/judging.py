"""Judging a canary while it serves: look at both arms again and again until the judge has decided."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visionyard import events
from visionyard.cluster.deploy.canary_metrics import ArmsWatch, Reader
from visionyard.cluster.deploy.kube import Cluster
from visionyard.cluster.deploy.reasons import is_ready, pods_of
from visionyard.cluster.deploy.record import Served
from visionyard.errors import NoAnswerError
from visionyard.monitoring.judge import Judge
from visionyard.monitoring.judge_config import JudgeConfig
from visionyard.monitoring.judge_verdict import Verdict

LOOK_S = 5.0
METRICS_PORT = 8080
_READ_TIMEOUT_S = 5.0
# Faults that come with age need some time; a canary that may last a minute only is given less.
_LEAST_S = 60.0


@dataclass(frozen=True)
class Arms:
    """Both arms of a service.

    Attributes:
        cluster: Where.
        labels: Selector of the service's pods.
        champion: The bundle that served before.
        canary: The one beside it.
    """

    cluster: Cluster
    labels: str
    champion: Served
    canary: Served

    def addresses(self) -> tuple[list[str], list[str]]:
        """Return where the metrics of the ready pods are, champion's and canary's."""
        first, second = (
            [
                f"http://{pod['status']['podIP']}:{METRICS_PORT}/metrics"
                for pod in pods_of(self.cluster, served, labels=self.labels)
                if is_ready(pod)
            ]
            for served in (self.champion, self.canary)
        )
        return first, second


def judge_canary(
    addresses: Callable[[], tuple[Sequence[str], Sequence[str]]],
    *,
    share: float,
    least_answers: int,
    duration_s: float,
    read: Reader | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Verdict:
    """Watch both arms until the judge promotes the canary or rolls it back; undecided in time means back.

    Args:
        addresses: Gives where the metrics of champion and canary are now.
        share: The canary's of the traffic, in (0, 1).
        least_answers: Answers of the canary before it can be promoted.
        duration_s: Longest time.
        read: From an address to its text; None asks over HTTP.
        clock: Seconds since the epoch.
        sleep: Waits so many seconds.
    """
    start = clock()
    config = JudgeConfig(
        canary_share=share,
        min_observations=least_answers,
        min_duration_s=min(_LEAST_S, duration_s / 2),
        max_duration_s=duration_s,
        at_timeout="roll_back",
    )
    watch = ArmsWatch(judge := Judge(config, started_s=start), read or read_over_http)
    told: tuple[str, ...] = ()
    while True:
        unread = _look(watch, addresses)
        for line in unread if unread != told else ():
            events.warn(f"metrics of a pod cannot be read, and its answers are not judged: {line}")
        told = unread
        verdict = judge.decide(clock())
        if verdict.decision != "hold":
            return verdict
        shown = f"canary: {verdict.canary_count} answers, champion: {verdict.champion_count}"
        events.progress(int(verdict.elapsed_s), int(duration_s), unit="s", label=shown)
        sleep(LOOK_S)


def _look(watch: ArmsWatch, addresses: Callable[[], tuple[Sequence[str], Sequence[str]]]) -> tuple[str, ...]:
    """Look at both arms once; return what could not be read."""
    try:
        watch.look(*addresses())
    except NoAnswerError as error:
        return (str(error),)
    return watch.unread


def read_over_http(address: str) -> str:
    """Return a pod's metrics.

    Raises:
        OSError: It does not answer.
    """
    import urllib3

    try:
        answer = urllib3.request("GET", address, timeout=_READ_TIMEOUT_S, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise OSError(str(error)) from None
    if answer.status != 200:
        raise OSError(f"answered {answer.status}")
    return answer.data.decode()
