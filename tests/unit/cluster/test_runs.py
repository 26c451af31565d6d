"""Tasks of a run, out of the workflow that it became."""

import base64
import gzip
import json

import pytest

from tests.fixtures.argo import NAME, PREFIX, node, omitted, pod_of, task, workflow
from visionyard.cluster.runs import TaskState, failure_of, run_state, task_states
from visionyard.errors import VisionyardError

STARTED, ENDED = "2026-11-22T02:04:29Z", "2026-11-22T02:04:50Z"


def test_a_task_has_its_pods_and_drivers_are_left_out():
    later = "2026-11-22T02:05:00Z"
    found = task_states(
        workflow(
            task("train-model", "Running", later, tries=[("Failed", "pod deleted"), ("Running", "")]),
            task("ingest-dataset"),
        )
    )
    assert found == [
        TaskState("ingest-dataset", "SUCCEEDED", STARTED, ENDED, (pod_of("ingest-dataset"),)),
        TaskState("train-model", "RUNNING", later, "", (pod_of("train-model"), pod_of("train-model", 1))),
    ]


def test_the_names_of_pods_are_those_that_argo_gives_them():
    # As seen: node visionyard-train-model-l7rgx-2987962962 of template system-dag-driver.
    seen = task("ingest-dataset")
    seen[-1]["id"] = f"{NAME}-2987962962"
    made = workflow(seen)
    assert task_states(made)[0].pods == (f"{NAME}-{PREFIX}-impl-2987962962",)
    made["metadata"]["annotations"] = {"workflows.argoproj.io/pod-name-format": "v1"}
    assert task_states(made)[0].pods == (f"{NAME}-2987962962",)


@pytest.mark.parametrize(
    ("nodes", "state", "message"),
    [
        (task("t", tries=()), "CACHED", ""),
        (task("t", "Failed", tries=[("", "main: OOMKilled (exit code 137)")]), "FAILED", "main: OOMKilled"),
        (task("t", "Running", tries=[("Pending", "ImagePullBackOff: Back-off")]), "PENDING", "ImagePullBackOff: "),
        (task("t", "Running", tries=[("Running", "")]), "RUNNING", ""),
        (omitted("t"), "SKIPPED", "omitted: depends condition not met"),
        ([node("t", "Retry", f"{PREFIX}-executor", "Running", startedAt=STARTED)], "PENDING", ""),
    ],
    ids=["cached", "killed", "no image", "running", "after a failure", "no executor yet"],
)
def test_the_state_of_a_task_and_why(nodes: list[dict[str, object]], state: str, message: str):
    (found,) = task_states(workflow(nodes))  # type: ignore[arg-type]
    assert (found.name, found.state) == ("t", state)
    assert found.message.startswith(message)


def test_a_failed_driver_is_told_in_the_place_of_its_task():
    said = "main: Error (exit code 1)"
    driver = [
        node("t-driver", "Retry", "system-container-driver", "Failed", message=said, startedAt=STARTED),
        node("t-driver(0)", "Pod", "system-container-driver", "Failed", message=said, startedAt=STARTED),
    ]
    (found,) = task_states(workflow([*driver, *omitted("t")], phase="Failed"))
    assert (found.name, found.state, found.message) == ("t", "FAILED", f"its driver failed: {said}")
    assert found.pods == (f"{NAME}-system-container-driver-{driver[1]['id'].rpartition('-')[2]}",)


def test_a_run_whose_first_driver_failed_says_so():
    made = workflow(phase="Failed")
    first = next(one for one in made["status"]["nodes"].values() if one["displayName"] == "root-driver")
    first |= {"phase": "Failed", "message": "main: Error (exit code 1)"}
    (found,) = task_states(made)
    assert (found.name, found.state) == ("root-driver", "FAILED")


def test_a_large_workflow_is_unpacked():
    made = workflow(task("t"))
    packed = gzip.compress(json.dumps(made["status"].pop("nodes")).encode())
    made["status"]["compressedNodes"] = base64.b64encode(packed).decode()
    assert [one.name for one in task_states(made)] == ["t"]


def test_nodes_that_the_api_cannot_show_are_told():
    with pytest.raises(VisionyardError, match="nodeStatusOffLoad"):
        task_states({"status": {"offloadNodeStatusVersion": "fnv:1"}})


def test_a_run_that_has_not_begun_has_no_tasks():
    assert task_states({}) == []
    assert failure_of({}) == ""
    assert failure_of(workflow(message="invalid spec")) == "invalid spec"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["PENDING", "RUNNING", "FAILED"], "FAILED"),
        (["PENDING", "RUNNING", "CANCELING", "FAILED"], "CANCELED"),
        (["PENDING", "RUNNING", "CANCELING"], "CANCELING"),
        (["PENDING", "CANCELING", "SUCCEEDED"], "SUCCEEDED"),
        ([], ""),
    ],
    ids=["failed", "asked to stop", "stopping", "done before it stopped", "new"],
)
def test_a_run_that_was_asked_to_stop_is_cancelled_not_failed(states: list[str], expected: str):
    run = {"state": states[-1], "state_history": [{"state": one} for one in states]} if states else {}
    assert run_state(run) == expected
