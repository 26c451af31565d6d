"""Tasks of a run, out of the nodes that the API lists."""

from typing import Any

from visionyard.cluster.runs import TaskState, task_states


def node(name: str, state: str = "SUCCEEDED", start: str = "", **more: Any) -> dict[str, Any]:
    children = [{"pod_name": pod} for pod in more.pop("children", [])]
    return {"display_name": name, "state": state, "start_time": start, "child_tasks": children, **more}


def test_a_task_has_its_executors_pod_and_drivers_are_left_out():
    details = [
        node("run-1", pod_name="run-1", children=["root-driver", "root"]),
        node("root-driver", pod_name="root-driver"),
        node("root", pod_name="root", children=["b", "a-driver", "a"]),
        node("train-model-driver", pod_name="b-driver"),
        node("train-model", "RUNNING", "2026-11-01T00:05:00Z", pod_name="b", children=["b-0"]),
        node("executor", "RUNNING", pod_name="b-0", children=["b-1", "b-2"]),
        node("executor(0)", "FAILED", pod_name="b-1"),
        node("executor(1)", "RUNNING", pod_name="b-2"),
        node("ingest-dataset", start="2026-11-01T00:01:00Z", end_time="2026-11-01T00:02:00Z", pod_name="a"),
        node("deploy-model", "", pod_name="c", end_time="1970-01-01T00:00:00Z"),
    ]
    run = {"display_name": "run-1", "run_details": {"task_details": details}}
    assert task_states(run) == [
        TaskState("ingest-dataset", "SUCCEEDED", "2026-11-01T00:01:00Z", "2026-11-01T00:02:00Z", ("a",)),
        TaskState("train-model", "RUNNING", "2026-11-01T00:05:00Z", "", ("b-1", "b-2")),
        TaskState("deploy-model", "PENDING", "", "", ("c",)),
    ]


def test_a_graph_inside_a_graph_is_no_task():
    details = [
        node("exit-handler-1", pod_name="h", children=["t"]),
        node("train-model", pod_name="t", children=["t-0"]),
        node("executor", pod_name="t-0"),
    ]
    assert [task.name for task in task_states({"run_details": {"task_details": details}})] == ["train-model"]


def test_a_run_that_has_not_begun_has_no_tasks():
    assert task_states({"run_id": "x"}) == []
