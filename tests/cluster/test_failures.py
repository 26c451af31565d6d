"""What ends a stage's pod badly: each ends with its reason, and nothing of it looks finished."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kube import Namespace, wait_for, waiting_reason
from tests.cluster.pod_driver import PodDriver
from tests.fixtures.s3_server import S3Server
from visionyard.cluster.outcome import read_outcome
from visionyard.events import read_events

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TASK, STAGE = "ingest-dataset", "ingest_dataset"


def problem_of(runs_bucket: str, run: str, stage: str = STAGE) -> tuple[str, str]:
    """Return stage and class of a run's one problem, as its events in the store tell an exit handler."""
    problems = read_outcome(read_events(f"{runs_bucket}/events", run=run), run=run, expected_stages=[stage]).problems
    assert len(problems) == 1, problems
    return problems[0].stage, problems[0].exit_class


def test_too_little_memory_ends_the_pod_and_leaves_nothing(
    namespace: Namespace, start_run: Callable[..., PodDriver], compiled_badly: Path, runs_bucket: str
) -> None:
    run = start_run(compiled_badly)
    job = run.start(TASK)

    ended = namespace.end_of(namespace.pod_of(job))

    assert ended["exitCode"] == 137, ended
    # The kernel chooses when: the stage is lost, or was not reached.
    assert problem_of(runs_bucket, namespace.name) in {(STAGE, "lost"), (STAGE, "never_started")}
    assert not run.is_recorded(TASK)


def test_a_full_volume_is_reported(
    namespace: Namespace, start_run: Callable[..., PodDriver], compiled: Path, runs_bucket: str
) -> None:
    run = start_run(compiled)
    job = run.start(TASK, artifacts_size="128Ki")

    ended = namespace.end_of(namespace.pod_of(job))

    assert ended["exitCode"] == 1, ended
    assert problem_of(runs_bucket, namespace.name) == (STAGE, "disk_full")
    assert not run.is_recorded(TASK)


def test_a_store_that_is_restarted_costs_a_try_at_most(
    namespace: Namespace, start_run: Callable[..., PodDriver], compiled: Path, runs_bucket: str, store: S3Server
) -> None:
    run = start_run(compiled)
    job = run.start(TASK)
    wait_for(lambda: read_events(f"{runs_bucket}/events", run=namespace.name), what="the stage begins", patience_s=120)

    store.kill()
    store.start()

    name = namespace.pod_of(job)
    if namespace.end_of(name)["exitCode"] != 0:
        assert f"{STAGE} failed (store_unreachable)" in namespace.logs(name)
        assert not run.is_recorded(TASK)
        name = namespace.pod_of(run.start(TASK))
        assert namespace.end_of(name)["exitCode"] == 0
    assert run.is_recorded(TASK)


def test_an_optional_secret_that_is_missing_is_reported_by_the_stage(
    namespace: Namespace, start_run: Callable[..., PodDriver], compiled: Path
) -> None:
    """Without keys there is no way into the store either, so the report is the last lines of the log."""
    run = start_run(compiled, has_secret=False)
    name = namespace.pod_of(run.start(TASK))

    ended = namespace.end_of(name)

    assert ended["exitCode"] == 1, ended
    assert f"{STAGE} failed (store_unreachable)" in namespace.logs(name)
    assert not run.is_recorded(TASK)


@pytest.mark.parametrize(
    ("task", "reasons", "words"),
    [
        pytest.param("extract-frames", {"CreateContainerConfigError"}, 'secret "missing" not found', id="secret"),
        pytest.param("prepare-dataset", {"ErrImagePull", "ImagePullBackOff"}, "missing-python:0", id="image"),
    ],
)
def test_what_a_pod_lacks_is_its_reason_and_the_stage_never_started(
    task: str,
    reasons: set[str],
    words: str,
    namespace: Namespace,
    compiled_badly: Path,
    data_image: str,
    runs_bucket: str,
) -> None:
    root = f"{runs_bucket}/runs/{namespace.name}"
    run = PodDriver(namespace, compiled_badly, root=root, arguments={"data_source": runs_bucket}, is_placed_only=True)
    name = namespace.pod_of(run.start(task))

    state = namespace.wait_for("pod", name, waits_for_good, what="is refused")

    assert waiting_reason(state) in reasons
    assert words in str(state["status"])
    stage = task.replace("-", "_")
    assert problem_of(runs_bucket, namespace.name, stage) == (stage, "never_started")


def waits_for_good(found: dict[str, Any]) -> dict[str, Any] | None:
    """Return a pod that waits for what will not come by itself."""
    return found if waiting_reason(found) not in {"", "ContainerCreating", "PodInitializing"} else None
