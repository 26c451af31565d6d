"""Waiting for a bundle to serve, and knowing when it will not."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from visionyard import events
from visionyard.errors import DeployError, NoAnswerError

POLL_S = 1.0
# A status still shows the state before the change, and a pod that failed once may come up at the next try.
PATIENCE_S = 15.0


@dataclass(frozen=True)
class Progress:
    """One look at a service.

    Attributes:
        is_done: The bundle serves.
        is_stuck: It will not by waiting longer, if that stays so.
        reasons: What stands in the way, one sentence each.
        shown: What is going on, in a few words.
    """

    is_done: bool
    is_stuck: bool
    reasons: tuple[str, ...]
    shown: str


def wait_until_served(
    look: Callable[[], Progress],
    *,
    what: str,
    timeout_s: float,
    patience_s: float = PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Look until a bundle serves; a cluster that does not answer meanwhile is asked again.

    Args:
        look: Looks once.
        what: The service, for messages.
        timeout_s: Longest wait.
        patience_s: How long it must be stuck without a pause to be given up.
        clock: Seconds that only grow.
        sleep: Waits so many seconds.

    Raises:
        DeployError: It is stuck, or not served in time; holds the reasons.
    """
    start = clock()
    stuck_since: float | None = None
    while True:
        try:
            progress = look()
        except NoAnswerError as error:
            progress = Progress(False, False, (str(error),), "no answer from the cluster")
        if progress.is_done:
            return
        now = clock()
        if not progress.is_stuck:
            stuck_since = None
        elif stuck_since is None:
            stuck_since = now
        events.progress(int(now - start), int(timeout_s), unit="s", label=progress.shown)
        reasons = "; ".join(progress.reasons) or f"no reason is given; it is {progress.shown}"
        if stuck_since is not None and now - stuck_since >= patience_s:
            raise DeployError(f"{what} does not come to serve: {reasons}")
        if now - start >= timeout_s:
            raise DeployError(
                f"{what} did not come to serve within {timeout_s:g} s: {reasons}; if it only needs longer, raise "
                "deployment.timeout_s"
            )
        sleep(POLL_S)
