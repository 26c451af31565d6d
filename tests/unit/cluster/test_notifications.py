"""Telling people: what is told about a run, and that it arrives at real servers or is told as failed."""

import json
import smtplib
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from tests.fixtures.http_stand_in import http_stand_in
from tests.fixtures.smtp_stand_in import smtp_stand_in
from visionyard.cluster import sending
from visionyard.cluster.notifications import channels_from, notify, slack_message
from visionyard.cluster.outcome import Outcome, read_outcome
from visionyard.cluster.run_end import _run_root, tell_end
from visionyard.components.notify_end import notify_end
from visionyard.errors import ConfigError
from visionyard.events import read_events

REPORT = {"stage": "train_model", "exit_class": "out_of_memory", "message": "<b> & 2 GB", "advice": "smaller batches"}


def event(at: float, stage: str, kind: str, attempt: str = "", **values: Any) -> dict[str, Any]:
    return {"time": at, "run": "r", "stage": stage, "kind": kind, "attempt": attempt or stage, **values}


DONE = [
    event(0, "ingest_dataset", "stage_started"),
    event(2, "ingest_dataset", "stage_finished", elapsed_s=2.0, figures={"clip_count": 24}),
    event(3, "promote_model", "stage_started"),
    event(9, "promote_model", "stage_finished", elapsed_s=6.0, figures={"verdict": "reject", "map_50": 0.81234}),
]
FAILED = [
    event(0, "train_model", "stage_started"),
    event(60, "train_model", "stage_failed", elapsed_s=60.0, report=REPORT),
]
KILLED = [
    event(0, "train_model", "stage_started"),
    event(50, "train_model", "heartbeat"),
    event(51, "notify_end", "stage_started"),
]
RETRIED = [
    *FAILED,
    event(70, "train_model", "stage_started", "b"),
    event(80, "train_model", "stage_finished", "b", elapsed_s=10.0, figures={}),
]
SKIPPED = [
    event(0, "find_new_data", "stage_started"),
    event(1, "find_new_data", "stage_finished", elapsed_s=1.0, figures={"decision": "skip"}),
]


@pytest.mark.parametrize(
    ("events", "expected", "status", "problems"),
    [
        (DONE, [], "done", []),
        (FAILED, ["train_model", "validate_model"], "failed", [("train_model", "out_of_memory")]),
        (KILLED, [], "failed", [("train_model", "lost")]),
        (RETRIED, [], "done", []),
        (DONE, ["ingest_dataset", "train_model", "deploy_model"], "failed", [("train_model", "never_started")]),
        ([], ["ingest_dataset"], "failed", [("ingest_dataset", "never_started")]),
        ([], [], "done", []),
        (SKIPPED, ["find_new_data", "promote_model"], "done", []),
    ],
    ids=[
        "done",
        "exit report",
        "killed",
        "tried again",
        "a stage never started",
        "nothing started",
        "no events",
        "skipped",
    ],
)
def test_how_a_run_ended(events: list[Any], expected: list[str], status: str, problems: list[tuple[str, str]]):
    outcome = read_outcome(reversed(events), run="digits-1", expected_stages=expected)
    assert outcome.status == status
    assert [(problem.stage, problem.exit_class) for problem in outcome.problems] == problems


def test_a_stage_that_never_ended_is_named_with_its_last_sign_of_life():
    (problem,) = read_outcome(KILLED).problems
    assert "last sign of life was at 1970-01-01 00:00:50 UTC, 50 s after its start" in problem.message


def test_the_lines_hold_verdict_figures_and_link():
    outcome = read_outcome(DONE, run="digits-1", url="http://ui/#/runs/details/r")
    assert outcome.title == "digits-1: done, verdict reject"
    assert "promote_model: done, 6 s: verdict reject, map_50 0.8123" in outcome.lines()
    assert outcome.lines()[-1] == "http://ui/#/runs/details/r"
    assert outcome.elapsed_s == 9


@pytest.fixture
def failed() -> Outcome:
    return read_outcome(FAILED, run="digits-1")


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionyard.storage.base._FIRST_WAIT_S", 0.01)


def test_a_webhook_gets_the_outcome_and_the_token(failed: Outcome):
    with http_stand_in() as server:
        values = {"VISIONYARD_NOTIFY_WEBHOOK": f"{server.url}/hook", "VISIONYARD_NOTIFY_WEBHOOK_TOKEN": "s3cret"}
        assert notify(failed, channels_from(values)) == []
    (sent,) = server.sent
    assert (sent.path, sent.headers["Authorization"]) == ("/hook", "Bearer s3cret")
    body = json.loads(sent.body)
    assert (body["schema_version"], body["run"], body["status"]) == (1, "digits-1", "failed")
    assert body["problems"] == [REPORT]


def test_slack_gets_text_that_calls_nobody(failed: Outcome):
    message: Any = slack_message(failed)
    text = message["blocks"][1]["text"]["text"]
    assert "&lt;b&gt; &amp; 2 GB" in text
    long = read_outcome([FAILED[0], {**FAILED[1], "report": {**REPORT, "message": "x" * 9000}}])
    assert len(slack_message(long)["blocks"][1]["text"]["text"]) <= 3000  # type: ignore[index]
    with http_stand_in() as server:
        assert notify(failed, channels_from({"VISIONYARD_NOTIFY_SLACK": server.url})) == []
    assert json.loads(server.sent[0].body) == message


@pytest.mark.parametrize(
    ("statuses", "sent_count", "told"),
    [
        ((503, 429, 200), 3, ""),
        ((500,), 5, "status 500"),
        ((403,), 1, "status 403"),
        ((302,), 1, "status 302"),
    ],
    ids=["recovers", "stays broken", "refuses", "redirects"],
)
def test_a_webhook_is_tried_five_times_at_most(failed: Outcome, statuses: tuple[int, ...], sent_count: int, told: str):
    with http_stand_in(*statuses) as server:
        problems = notify(failed, channels_from({"VISIONYARD_NOTIFY_SLACK": f"{server.url}/services/s3cret"}))
    assert len(server.sent) == sent_count
    assert bool(problems) == bool(told)
    if problems:
        assert told in problems[0]
        assert "s3cret" not in problems[0]


def test_a_server_that_does_not_answer_costs_its_time_limit(failed: Outcome, monkeypatch: pytest.MonkeyPatch):
    import socket

    import urllib3

    monkeypatch.setattr(sending, "_TIMEOUT", urllib3.Timeout(connect=0.2, read=0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        (problem,) = notify(failed, channels_from({"VISIONYARD_NOTIFY_WEBHOOK": url}))
    assert "nothing was sent" in problem
    assert time.monotonic() - began < 5


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    both = folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes((folder / "key").read_bytes() + (folder / "crt").read_bytes())
    return both


def mail_settings(port: int, **more: str) -> dict[str, str]:
    values = {
        "EMAIL_TO": "a@example.com, b@example.com",
        "EMAIL_FROM": "yard@example.com",
        "SMTP_HOST": "localhost",
        "SMTP_PORT": str(port),
        **more,
    }
    return {f"VISIONYARD_NOTIFY_{name}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("tls", "is_tls_first"), [("starttls", False), ("tls", True), ("none", False)], ids=["STARTTLS", "TLS", "plain"]
)
def test_a_mail_arrives(
    failed: Outcome, tls: str, is_tls_first: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    login = {} if tls == "none" else {"SMTP_USER": "yard", "SMTP_PASSWORD": "s3cret"}
    user = {} if tls == "none" else {"user": "yard", "password": "s3cret"}
    with smtp_stand_in(certificate=certificate if login else None, is_tls_first=is_tls_first, **user) as server:
        assert notify(failed, channels_from(mail_settings(server.port, SMTP_TLS=tls, **login))) == []
    (mail,) = server.mails
    assert mail["Subject"] == "[visionyard] digits-1: failed"
    assert mail["To"] == "a@example.com, b@example.com"
    assert "What to do: smaller batches" in mail.get_content()
    assert server.secure_count == (0 if tls == "none" else 1)


def test_a_mail_server_that_is_busy_is_asked_again(failed: Outcome):
    with smtp_stand_in() as server:
        server.refusals = [451]
        assert notify(failed, channels_from(mail_settings(server.port, SMTP_TLS="none"))) == []
    assert len(server.mails) == 1


def test_a_wrong_password_is_told_without_it(failed: Outcome, certificate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with smtp_stand_in(certificate=certificate, user="yard", password="right") as server:
        settings = mail_settings(server.port, SMTP_USER="yard", SMTP_PASSWORD="s3cret")
        (problem,) = notify(failed, channels_from(settings))
    assert "the login was refused (535)" in problem
    assert "s3cret" not in problem
    assert "s3cret" not in repr(channels_from(settings))


def test_a_certificate_that_nobody_trusts_is_refused(failed: Outcome, certificate: Path):
    with smtp_stand_in(certificate=certificate) as server:
        (problem,) = notify(failed, channels_from(mail_settings(server.port)))
    assert "SSL_CERT_FILE" in problem
    assert not server.mails


def test_a_server_without_starttls_gets_no_mail_in_the_clear(failed: Outcome):
    with smtp_stand_in() as server:
        (problem,) = notify(failed, channels_from(mail_settings(server.port)))
    assert smtplib.SMTPNotSupportedError.__name__ in problem
    assert not server.mails


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"SLACK": "hooks.example.com"}, "VISIONYARD_NOTIFY_SLACK: expected an http"),
        ({"EMAIL_TO": "a@b"}, "VISIONYARD_NOTIFY_EMAIL_FROM: missing"),
        ({"EMAIL_TO": "a@b", "EMAIL_FROM": "a", "SMTP_HOST": "h", "SMTP_PORT": "x"}, "SMTP_PORT = 'x'"),
        ({"EMAIL_TO": "a@b", "EMAIL_FROM": "a", "SMTP_HOST": "h", "SMTP_TLS": "yes"}, "SMTP_TLS = 'yes'"),
        (
            {"EMAIL_TO": "a@b", "EMAIL_FROM": "a", "SMTP_HOST": "h", "SMTP_TLS": "none", "SMTP_USER": "u"},
            "in the clear",
        ),
    ],
    ids=["no scheme", "no sender", "port", "tls", "password in the clear"],
)
def test_a_wrong_setting_is_told(values: dict[str, str], part: str):
    with pytest.raises(ConfigError, match=part):
        channels_from({f"VISIONYARD_NOTIFY_{name}": value for name, value in values.items()})


def test_the_stage_tells_the_end_and_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = tmp_path / "events.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in KILLED[:2]))
    monkeypatch.setenv("VISIONYARD_EVENTS", str(log))
    monkeypatch.setenv("VISIONYARD_RUN", "4711")
    monkeypatch.setenv("VISIONYARD_UI_URL", "http://ui/")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "prices.yaml").write_text("currency: EUR\n")
    with http_stand_in(200) as good, http_stand_in(500) as bad:
        monkeypatch.setenv("VISIONYARD_NOTIFY_WEBHOOK", good.url)
        monkeypatch.setenv("VISIONYARD_NOTIFY_SLACK", bad.url)
        outcome = dsl.Artifact(uri=str(tmp_path / "artifacts/4711/notify-end/outcome"))
        Path(outcome.path).parent.mkdir(parents=True)
        (tmp_path / "artifacts/4711/model").write_bytes(b"x" * 1000)
        notify_end.python_func(outcome=outcome, run_name="digits", prices_uri=str(tmp_path / "prices.yaml"))
    body = json.loads(good.sent[0].body)
    assert body == json.loads(Path(outcome.path).read_text())
    assert body["cost"]["stored_bytes"] == 1000
    assert body["url"] == "http://ui/#/runs/details/4711"
    assert body["problems"][0]["exit_class"] == "lost"
    assert body["cost"]["currency"] == "EUR"
    own = [line for line in read_events(log) if line["stage"] == "notify_end"]
    assert [line["message"] for line in own if line["kind"] == "warning"] == [
        "not told by Slack at 127.0.0.1: it answered with status 500; check the address and the token"
    ]
    assert own[-1]["figures"] == {"status": "failed", "told": 1, "cost": "0.0000 EUR"}


@pytest.mark.parametrize(("events", "told"), [(DONE, 0), (FAILED, 1)], ids=["done", "failed"])
def test_only_failures_are_told_when_asked_for(
    events: list[Any], told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "events.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in events))
    with http_stand_in() as server:
        monkeypatch.setenv("VISIONYARD_NOTIFY_WEBHOOK", server.url)
        assert tell_end(events_uri=str(log), run="r", when="failure").told_count == told
    assert len(server.sent) == told


@pytest.mark.parametrize(
    ("uri", "run", "expected"),
    [
        ("minio://b/v2/artifacts/retrain/4711/notify-end/o", "4711", "s3://b/v2/artifacts/retrain/4711"),
        ("s3://b/artifacts/retrain/4711/o", "4711", "s3://b/artifacts/retrain/4711"),
        ("/tmp/root/notify-end/outcome", "4711", ""),
        ("s3://b/a//o", "", ""),
    ],
    ids=["minio", "s3", "no id in it", "no run"],
)
def test_where_a_runs_artifacts_lie(uri: str, run: str, expected: str):
    assert _run_root(uri, run) == expected


def test_a_run_without_an_address_for_events_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VISIONYARD_EVENTS", raising=False)
    with http_stand_in() as server:
        monkeypatch.setenv("VISIONYARD_NOTIFY_WEBHOOK", server.url)
        assert tell_end(run="r", expected_stages=["a"]).told_count == 1
    assert len(server.sent) == 1


def test_events_that_cannot_be_read_and_wrong_settings_are_warnings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, value in {"EVENTS": "s3://", "NOTIFY_SLACK": "nowhere", "PRICES": "/absent.yaml"}.items():
        monkeypatch.setenv(f"VISIONYARD_{name}", value)
    assert tell_end(run="r").told_count == 0
