"""One DAG, two runners: whatever a pipeline does as subprocesses it does in containers."""

import json
import os
import signal
from pathlib import Path

import pytest
from kfp import dsl

from tests.conformance import parts
from tests.conformance.cases import CASES
from tests.conformance.conftest import Runner, kill_group, wait_until
from visionyard.cli.pipeline_process import CONTAINERS
from visionyard.events import read_events


@pytest.mark.parametrize("name", CASES)
def test_both_runners_do(name: str, runner: Runner, tmp_path: Path):
    case = CASES[name]
    source = tmp_path / "data of mine"
    source.mkdir()
    for file in ("a b.txt", "ö.txt"):
        (source / file).write_text("x")
    arguments = {key: str(source) if value == "SOURCE" else value for key, value in case.arguments.items()}
    result = runner.run(case.pipeline, arguments)
    assert result.is_done is case.is_done, result.log[-3000:]
    if case.outputs is not None:
        assert result.outputs == case.outputs
    case.check(result)
    owners = {path.stat().st_uid for path in runner.folder.rglob("*")}
    assert owners == {os.getuid()}


@dsl.pipeline(name="cached")
def _cached(name: str) -> str:
    return parts.trace(name=parts.trace(name=name).output).output


@dsl.pipeline(name="cached")
def _half_cached(name: str) -> str:
    return parts.trace(name=parts.trace(name=name).output).set_caching_options(False).output


def test_what_ran_is_not_run_again_unless_its_input_changed(runner: Runner):
    assert runner.run(_cached, {"name": "a"}).traces == ["a", "a"]
    assert runner.run(_cached, {"name": "a"}).traces == ["a", "a"]
    assert runner.run(_cached, {"name": "b"}).traces == ["a", "a", "b", "b"]


def test_caching_can_be_switched_off_for_a_task(runner: Runner):
    assert runner.run(_half_cached, {"name": "a"}).traces == ["a", "a"]
    assert runner.run(_half_cached, {"name": "a"}).traces == ["a", "a", "a"]


@dsl.pipeline(name="waiting")
def _waiting() -> str:
    before = parts.trace(name="before")
    waited = parts.wait_for_file(name="go").after(before)
    return parts.trace(name=waited.output).output


def _is_waiting(runner: Runner) -> bool:
    return any(event["kind"] == "stage_started" for event in read_events(runner.folder / "events.jsonl"))


def test_a_run_that_was_killed_hard_goes_on_where_it_was(runner: Runner):
    process = runner.start(_waiting)
    wait_until(lambda: _is_waiting(runner), 60)
    kill_group(process)
    if runner.kind == CONTAINERS:  # as `visionyard run` does before it starts again
        from visionyard.cli.container_run import remove_containers

        remove_containers(runner.folder)
    (runner.folder / "go").touch()
    result = runner.run(_waiting)
    assert result.is_done, result.log[-3000:]
    assert result.traces == ["before", "found"]


def test_a_run_that_is_told_to_stop_leaves_an_exit_report_and_nothing_running(runner: Runner):
    process = runner.start(_waiting)
    wait_until(lambda: _is_waiting(runner), 60)
    kill_group(process, signal.SIGTERM)
    assert process.exitcode != 0
    path = runner.folder / "wait_for_file.exit.json"
    wait_until(path.exists, 10)
    assert json.loads(path.read_text())["exit_class"] == "preempted"
    if runner.kind == CONTAINERS:
        assert _containers(runner.folder) == []


def _containers(folder: Path) -> list[str]:
    import docker

    client = docker.DockerClient(base_url=os.environ["DOCKER_HOST"])
    try:
        label = f"visionyard.run={folder}"
        return [one.name for one in client.containers.list(all=True, filters={"label": label}, ignore_removed=True)]
    finally:
        client.close()
