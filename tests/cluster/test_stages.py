"""The pipeline's own stages as pods, from its compiled file: left alone, and killed in the middle of each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from tests.cluster.kube import Namespace, wait_for
from tests.cluster.pod_driver import PodDriver
from visionyard.cluster.attempts import read_attempts
from visionyard.cluster.outcome import read_outcome
from visionyard.components.extract_frames import extract_frames
from visionyard.components.ingest_dataset import ingest_dataset
from visionyard.components.prepare_dataset import prepare_dataset
from visionyard.events import EVENTS_VARIABLE, read_events
from visionyard.storage import read_bytes

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DATA_STAGES = ("ingest-dataset", "extract-frames", "prepare-dataset")


def run_here(source: str, folder: Path) -> Path:
    """Run the data stages in this process and return the dataset version."""
    made = {name: dsl.Dataset(uri=str(folder / name)) for name in ("sources", "frames", "dataset")}
    ingest_dataset.python_func(sources=made["sources"], source=source)
    extract_frames.python_func(sources=made["sources"], frames=made["frames"])
    prepare_dataset.python_func(sources=made["sources"], frames=made["frames"], dataset=made["dataset"])
    return folder / "dataset"


def finished(namespace: Namespace, job: str) -> None:
    """Wait until a Job has ended well; says what its pods wrote when it has not."""

    def ended(found: dict[str, Any]) -> str:
        types = {one["type"] for one in found.get("status", {}).get("conditions", []) if one["status"] == "True"}
        return "failed" if "Failed" in types else "done" if "Complete" in types else ""

    if namespace.wait_for("job", job, ended, what="ends", patience_s=150) == "failed":
        pytest.fail(f"{namespace.kubectl('logs', f'job/{job}', '--tail=20')}\n{namespace.events()}")


def kill_in_the_middle(namespace: Namespace, events_uri: str, job: str, stage: str) -> None:
    """Delete the pod of a Job by force when its stage has begun."""
    pod = namespace.pod_of(job)
    wait_for(
        lambda: [one for one in read_events(events_uri, run=namespace.name) if one["stage"] == stage],
        what=f"{stage} begins",
        patience_s=120,
    )
    namespace.kill(pod)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_killed", [False, True], ids=["left alone", "killed in each stage"])
def test_the_data_stages_give_what_a_local_run_gives(
    is_killed: bool,
    namespace: Namespace,
    start_run: Callable[..., PodDriver],
    compiled: Path,
    runs_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = start_run(compiled)
    events_uri = f"{runs_bucket}/events"

    for task in DATA_STAGES:
        job = run.start(task)
        if is_killed:
            kill_in_the_middle(namespace, events_uri, job, task.replace("-", "_"))
            assert not run.is_recorded(task)
        finished(namespace, job)
        assert run.is_recorded(task)

    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
    here = run_here(f"{runs_bucket}/clips", tmp_path)
    for path in sorted(path for path in here.rglob("*") if path.is_file()):
        key = path.relative_to(here).as_posix()
        assert read_bytes(f"{run.artifact_uri('prepare-dataset', 'dataset')}/{key}") == path.read_bytes(), key
    events = read_events(events_uri, run=namespace.name)
    assert [attempt.status for attempt in read_attempts(events)].count("done") == len(DATA_STAGES)
    assert len(read_attempts(events)) == (2 if is_killed else 1) * len(DATA_STAGES)
    assert read_outcome(events, run=namespace.name).status == "done"
