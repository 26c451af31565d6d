"""The exit handler in a pipeline, with events in a real object store: a stage that fails and one that is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.http_stand_in import http_stand_in

pytestmark = pytest.mark.slow

PIPELINE = """
import sys
from kfp import dsl, local
from visionyard.components.notify_end import notify_end

@dsl.component(base_image="python", install_kfp_package=False)
def work(how: str):
    from visionyard import events

    with events.stage("train_model"):
        import os
        import signal

        from visionyard.errors import DataError

        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "failed":
            raise DataError("a.jpg: truncated")
        events.figures(verdict="promote")

@dsl.pipeline
def tried(how: str):
    with dsl.ExitHandler(notify_end(run_name="digits", expected_stages=["train_model"])):
        work(how=how)

local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])
tried(how=sys.argv[1])
"""


@pytest.mark.parametrize(
    ("how", "status", "verdict", "exit_class"),
    [("done", "done", "promote", None), ("failed", "failed", "", "bad_data"), ("killed", "failed", "", "lost")],
    ids=["done", "failed", "killed"],
)
def test_people_are_told_how_it_ended(
    how: str, status: str, verdict: str, exit_class: str | None, s3: str, tmp_path: Path
):
    (tmp_path / "tried.py").write_text(PIPELINE)
    with http_stand_in() as server:
        environment = {
            **os.environ,
            "VISIONYARD_EVENTS": f"{s3}/events",
            "VISIONYARD_RUN": "4711",
            "VISIONYARD_NOTIFY_WEBHOOK": server.url,
        }
        command = [sys.executable, str(tmp_path / "tried.py"), how, str(tmp_path / "root")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert (done.returncode == 0) == (how == "done"), done.stdout[-3000:] + done.stderr[-3000:]
    (sent,) = server.sent
    body = json.loads(sent.body)
    assert (body["run"], body["status"], body["verdict"]) == ("digits", status, verdict)
    assert [(one["stage"], one["exit_class"]) for one in body["problems"]] == (
        [("train_model", exit_class)] if exit_class else []
    )
