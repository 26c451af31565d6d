"""The drift-webhook receiver over real HTTP: storms, restarts, refusals, a backend that is away."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from visionyard.cluster import receiver as receiver_module
from visionyard.cluster.alerts import (
    Debouncer,
    ReceiverConfig,
    load_receiver_config,
    models_to_train,
    parse_alerts,
)
from visionyard.cluster.receiver import LARGEST_BODY_BYTES, Receiver, ReceiverServer
from visionyard.errors import ArtifactError, ConfigError, RequestError, StorageError, VisionyardError


class Starts:
    """Starts nothing, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.started: list[tuple[str, dict[str, Any]]] = []
        self.running: set[str] = set()
        self.is_away = False

    def start(self, model: str, parameters: Mapping[str, Any]) -> str:
        if self.is_away:
            raise VisionyardError("the server is away")
        self.started.append((model, dict(parameters)))
        return f"run-{len(self.started)}"

    def is_running(self, run_id: str) -> bool:
        if self.is_away:
            raise VisionyardError("the server is away")
        return run_id in self.running


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def config(tmp_path: Path) -> ReceiverConfig:
    return ReceiverConfig(
        models={"shapes": {"run_name": "shapes"}, "digits": {}}, state=str(tmp_path / "state.json"), quiet_s=600
    )


def notification(*alerts: Mapping[str, Any], **more: Any) -> bytes:
    return json.dumps({"version": "4", "status": "firing", "groupKey": "{}", "alerts": list(alerts), **more}).encode()


def drift(
    model: str = "shapes", status: str = "firing", name: str = "VisionyardDrift", **labels: str
) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": name, "model": model, **labels},
        "startsAt": "2026-01-01T00:00:00Z",
    }


@contextmanager
def serving(config: ReceiverConfig, starts: Starts, clock: Clock, token: str = "") -> Iterator[ReceiverServer]:
    receiver = Receiver(config, Debouncer(config, starts, clock=clock), token=token)
    with ReceiverServer(("127.0.0.1", 0), receiver) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(
    server: ReceiverServer, body: bytes = b"", *, method: str = "POST", path: str = "/alerts", **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(
            method, path, body=body, headers={key.replace("_", "-"): text for key, text in headers.items()}
        )
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(text) if answer.headers["Content-Type"] == "application/json" else text.decode()


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_drift_alert_starts_one_run_with_the_models_parameters(config: ReceiverConfig, starts: Starts, clock: Clock):
    with serving(config, starts, clock) as server:
        assert ask(server, notification(drift(), drift(feature="blur"))) == (200, {"decisions": {"shapes": "started"}})
        assert ask(server, notification(drift())) == (200, {"decisions": {"shapes": "quiet"}})
        assert ask(server, notification(drift("digits"))) == (200, {"decisions": {"digits": "started"}})
    assert starts.started == [("shapes", {"run_name": "shapes"}), ("digits", {})]


def test_after_the_quiet_time_a_run_is_waited_for(config: ReceiverConfig, starts: Starts, clock: Clock):
    starts.running = {"run-1"}
    with serving(config, starts, clock) as server:
        ask(server, notification(drift()))
        clock.now += 601
        assert ask(server, notification(drift()))[1] == {"decisions": {"shapes": "running"}}
        starts.running.clear()
        assert ask(server, notification(drift()))[1] == {"decisions": {"shapes": "started"}}
    assert len(starts.started) == 2


def test_a_storm_of_a_thousand_alerts_starts_one_run(config: ReceiverConfig, starts: Starts, clock: Clock):
    storm = notification(*(drift(instance=f"pod-{number}") for number in range(1000)))
    assert len(storm) < LARGEST_BODY_BYTES
    with serving(config, starts, clock) as server, ThreadPoolExecutor(16) as senders:
        answers = list(senders.map(lambda _: ask(server, storm), range(4)))
        answers += senders.map(lambda number: ask(server, notification(drift(pod=str(number)))), range(1000))
        text = ask(server, method="GET", path="/metrics")[1]
    assert {status for status, _ in answers} == {200}
    assert len(starts.started) == 1
    assert 'visionyard_receiver_decisions_total{decision="quiet",model="shapes"} 1003.0' in text
    assert 'visionyard_receiver_requests_total{status="200"} 1004.0' in text
    assert 'visionyard_receiver_last_start_timestamp_seconds{model="shapes"} 1e+09' in text


def test_what_was_started_survives_a_restart(config: ReceiverConfig, starts: Starts, clock: Clock):
    for expected in ("started", "quiet"):
        with serving(config, starts, clock) as server:
            assert ask(server, notification(drift()))[1] == {"decisions": {"shapes": expected}}
    assert len(starts.started) == 1


def test_the_state_can_lie_in_a_store(s3: str, config: ReceiverConfig, starts: Starts, clock: Clock):
    there = config.model_copy(update={"state": f"{s3}/receiver/state.json"})
    assert Debouncer(there, starts, clock=clock).ask("shapes") == "started"
    assert Debouncer(there, starts, clock=clock).ask("shapes") == "quiet"


def test_a_receiver_that_died_while_starting_starts_nothing_twice(config: ReceiverConfig, starts: Starts, clock: Clock):
    class Dies(Starts):
        def start(self, model: str, parameters: Mapping[str, Any]) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Debouncer(config, Dies(), clock=clock).ask("shapes")
    assert Debouncer(config, starts, clock=clock).ask("shapes") == "quiet"
    clock.now += 601
    assert Debouncer(config, starts, clock=clock).ask("shapes") == "started"


def test_a_backend_that_is_away_is_answered_502_until_it_is_back(config: ReceiverConfig, starts: Starts, clock: Clock):
    starts.is_away = True
    both = notification(drift("digits"), drift("shapes"))
    with serving(config, starts, clock) as server:
        for _ in range(2):
            assert ask(server, both) == (502, {"decisions": {"digits": "failed", "shapes": "failed"}})
        starts.is_away = False
        assert ask(server, both) == (200, {"decisions": {"digits": "started", "shapes": "started"}})
    assert len(starts.started) == 2


def test_nothing_is_started_that_cannot_be_remembered(
    config: ReceiverConfig, starts: Starts, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    debouncer = Debouncer(config, starts, clock=clock)

    def refuse(*_: object) -> None:
        raise StorageError("the store is away")

    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr("visionyard.storage.write_bytes", refuse)
        debouncer.ask("shapes")
    assert starts.started == []
    assert debouncer.ask("shapes") == "started"


@pytest.mark.parametrize(
    ("alert", "expected"),
    [
        (drift(), (["shapes"], [])),
        (drift(status="resolved"), ([], [])),
        (drift(name="VisionyardSlow"), ([], [])),
        (drift("unheard"), ([], ["unheard"])),
        ({"status": "firing", "labels": {"alertname": "VisionyardDrift"}}, ([], [""])),
    ],
    ids=["drift", "resolved", "another alert", "unknown model", "no model"],
)
def test_which_alerts_count(alert: dict[str, Any], expected: tuple[list[str], list[str]], config: ReceiverConfig):
    assert models_to_train(parse_alerts(notification(alert)), config) == expected


def test_a_rule_may_ask_for_labels_and_patterns(config: ReceiverConfig):
    rules = [{"alert": "*Drift*", "labels": {"severity": "critical", "namespace": "prod-*"}}]
    strict = ReceiverConfig.model_validate({**config.model_dump(), "rules": rules})
    wanted = drift(severity="critical", namespace="prod-eu")
    for alert, count in ((wanted, 1), (drift(severity="critical"), 0), (drift(namespace="prod-eu"), 0)):
        assert len(models_to_train(parse_alerts(notification(alert)), strict)[0]) == count


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected an object"),
        (b'{"version": "4"}', "alerts: missing"),
        (b'{"version": "3", "alerts": []}', "version = '3'"),
        (b'{"version": "4", "alerts": [{"status": "on", "labels": {}}]}', "alerts.0.status = 'on'"),
        (b'{"version": "4", "alerts": [{"status": "firing", "labels": {"a": 1}}]}', "alerts.0.labels.a = 1"),
        (b"\xff\xfe", "not JSON"),
    ],
    ids=["empty", "torn", "deep", "a list", "no alerts", "another version", "status", "label", "bytes"],
)
def test_what_is_no_notification_is_answered_400(
    body: bytes, part: str, config: ReceiverConfig, starts: Starts, clock: Clock
):
    with pytest.raises(RequestError, match=part):
        parse_alerts(body)
    with serving(config, starts, clock) as server:
        status, answer = ask(server, body)
    assert status == 400
    assert part in answer["error"]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("", 401), ("Bearer wrong", 401), ("Bearer", 401), ("Bearer s3cr\u00e9t", 401), ("Bearer s3cret", 200)],
    ids=["none", "wrong", "empty", "not ASCII", "right"],
)
def test_the_token_is_asked_for(
    authorization: str,
    status: int,
    config: ReceiverConfig,
    starts: Starts,
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
):
    with serving(config, starts, clock, token="s3cret") as server:
        assert ask(server, notification(drift()), Authorization=authorization)[0] == status
        assert ask(server, method="GET", path="/health") == (200, {"status": "ok"})
    assert len(starts.started) == (status == 200)
    assert "s3cret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/alerts", {"Content_Length": str(LARGEST_BODY_BYTES + 1)}, 413),
        ("/alerts", {"Content_Length": "9" * 400}, 413),
        ("/alerts", {"Content_Length": "-1"}, 400),
        ("/alerts", {"Transfer_Encoding": "chunked"}, 400),
        ("/elsewhere", {}, 404),
    ],
    ids=["large", "huge", "negative", "chunked", "another path"],
)
def test_what_is_not_read_is_refused(
    path: str, headers: dict[str, str], status: int, config: ReceiverConfig, starts: Starts, clock: Clock
):
    with serving(config, starts, clock) as server:
        assert ask(server, path=path, **headers)[0] == status
        assert ask(server, notification(drift()))[0] == 200


def test_too_many_connections_are_turned_away_and_room_comes_back(
    config: ReceiverConfig, starts: Starts, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(receiver_module, "CONNECTION_COUNT", 2)
    with serving(config, starts, clock) as server:
        with ExitStack() as held:
            for _ in range(2):
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
                held.callback(connection.close)
                connection.request("GET", "/health")
                assert connection.getresponse().read()
            # It sends nothing: what is sent to a connection that was closed unread can reset it before its answer.
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as third:
                assert third.recv(100).startswith(b"HTTP/1.1 503")
        status = 503
        while status == 503:
            with suppress(ConnectionError):
                status, _ = ask(server, notification(drift()))
    assert status == 200


def test_a_thread_that_cannot_be_started_takes_no_room(
    config: ReceiverConfig, starts: Starts, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(receiver_module, "CONNECTION_COUNT", 1)
    with serving(config, starts, clock) as server:
        monkeypatch.setattr(threading.Thread, "start", fail)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            ask(server, method="GET", path="/health")
        monkeypatch.setattr(threading.Thread, "start", start)
        assert ask(server, method="GET", path="/health")[0] == 200
    assert "can't start new thread" in capsys.readouterr().err


def test_a_state_of_another_version_is_refused(config: ReceiverConfig, starts: Starts):
    Path(config.state).write_text('{"schema_version": 2, "models": {}}')
    with pytest.raises(ArtifactError, match="not the state of a receiver of this version"):
        Debouncer(config, starts)


def test_the_config_tells_all_its_mistakes(tmp_path: Path):
    path = tmp_path / "receiver.yaml"
    path.write_text("quiet_s: -1\nmodel: {}\n")
    with pytest.raises(ConfigError) as raised:
        load_receiver_config(path, environment={})
    assert "models: missing" in str(raised.value)
    assert "quiet_s = -1" in str(raised.value)
    path.write_text("models: {shapes: {run_name: shapes}}\n")
    assert load_receiver_config(path, environment={"VISIONYARD_RECEIVE_QUIET_S": "5"}).quiet_s == 5
