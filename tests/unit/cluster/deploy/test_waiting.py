"""Waiting: done, stuck long enough, too late; without a clock of its own."""

from collections.abc import Iterator

import pytest

from visionyard.cluster.deploy.waiting import Progress, wait_until_served
from visionyard.errors import DeployError, NoAnswerError

DONE = Progress(True, False, (), "served")
BUSY = Progress(False, False, ("pod a: not scheduled: no node",), "InProgress")
STUCK = Progress(False, True, ("pod a: ImagePullBackOff",), "InProgress")


SILENT = NoAnswerError("https://cluster: the cluster does not answer")


def wait(*looks: Progress | NoAnswerError, timeout_s: float = 60.0) -> int:
    """Wait with a look a second; return how many were taken."""
    now = [0.0]
    taken: list[Progress | NoAnswerError] = []
    given: Iterator[Progress | NoAnswerError] = iter(looks)

    def look() -> Progress:
        taken.append(next(given, looks[-1]))
        if isinstance(taken[-1], NoAnswerError):
            raise taken[-1]
        return taken[-1]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    wait_until_served(look, what="service x", timeout_s=timeout_s, patience_s=3.0, clock=lambda: now[0], sleep=sleep)
    return len(taken)


def test_it_ends_when_the_bundle_serves() -> None:
    assert wait(BUSY, BUSY, DONE) == 3


def test_what_is_stuck_for_a_moment_may_recover() -> None:
    assert wait(STUCK, STUCK, BUSY, STUCK, STUCK, DONE) == 6


def test_what_stays_stuck_ends_long_before_the_timeout() -> None:
    with pytest.raises(DeployError, match=r"service x does not come to serve: pod a: ImagePullBackOff"):
        wait(BUSY, STUCK, timeout_s=3600)


def test_what_takes_too_long_says_what_it_was_at() -> None:
    with pytest.raises(DeployError, match=r"within 5 s: pod a: not scheduled: no node; .*deployment\.timeout_s"):
        wait(BUSY, timeout_s=5)


def test_a_silent_platform_is_told_as_such() -> None:
    with pytest.raises(DeployError, match=r"no reason is given; it is Pending"):
        wait(Progress(False, False, (), "Pending"), timeout_s=2)


def test_a_cluster_that_is_silent_for_a_while_ends_nothing() -> None:
    assert wait(BUSY, *[SILENT] * 20, BUSY, DONE) == 23
    assert wait(STUCK, STUCK, SILENT, STUCK, STUCK, DONE) == 6


def test_a_cluster_that_stays_silent_is_told_in_the_end() -> None:
    with pytest.raises(DeployError, match="within 5 s: https://cluster: the cluster does not answer; "):
        wait(SILENT, timeout_s=5)
