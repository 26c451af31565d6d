"""The drift-webhook receiver: Alertmanager's notifications in, runs of the retraining pipeline out.

POST /alerts   a notification; answered 5xx when a run should have been started and was not, so that it is sent again
GET  /health   200 while the process answers
GET  /metrics  for Prometheus
"""

import hmac
import json
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from visionyard.cluster.alerts import Debouncer, ReceiverConfig, models_to_train, parse_alerts, unknown_models_told
from visionyard.errors import DeniedError, NotFoundError, RequestError, TooLargeError, VisionyardError

TOKEN_VARIABLE = "VISIONYARD_RECEIVER_TOKEN"  # noqa: S105 (a variable's name)
# A thousand alerts of Alertmanager's own are half of it.
LARGEST_BODY_BYTES = 1 << 20
CONNECTION_COUNT = 64
# A connection that sends nothing for so long is closed.
IDLE_S = 10.0
_STATUSES: dict[type[VisionyardError], int] = {DeniedError: 401, NotFoundError: 404, TooLargeError: 413}
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 5\r\n\r\n"


class ReceiverMetrics:
    """What Prometheus reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "visionyard_receiver_requests",
            "Notifications by the status of the answer.",
            ["status"],
            registry=self.registry,
        )
        self.decisions = Counter(
            "visionyard_receiver_decisions",
            "What became of the wish to train a model again.",
            ["model", "decision"],
            registry=self.registry,
        )
        self.last_start = Gauge(
            "visionyard_receiver_last_start_timestamp_seconds",
            "When a run of the model was last started.",
            ["model"],
            registry=self.registry,
        )


class Receiver:
    """What is done with a notification, whatever brings it."""

    def __init__(self, config: ReceiverConfig, debouncer: Debouncer, *, token: str = "") -> None:
        """Receive for a config.

        Args:
            config: Which alerts count, and for which models.
            debouncer: Starts the runs.
            token: Bearer token that callers must send; empty: anybody may.
        """
        self._config, self._debouncer, self._token = config, debouncer, token
        self.metrics = ReceiverMetrics()
        for model in config.models:
            for decision in ("started", "quiet", "running", "failed"):
                self.metrics.decisions.labels(model, decision)
        self._show_starts()

    def check_token(self, authorization: str) -> None:
        """Refuse a caller without the token.

        Raises:
            DeniedError: The header does not hold it.
        """
        given = authorization.removeprefix("Bearer ").strip()
        if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
            raise DeniedError("expected the header 'Authorization: Bearer <token>' with the receiver's token")

    def receive(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Start what a notification asks for; return status and answer.

        Raises:
            RequestError: It is no notification.
        """
        wanted, unknown = models_to_train(parse_alerts(body), self._config)
        if unknown:
            log("warning", "unknown model", problem=unknown_models_told(unknown, self._config))
        decisions, status = {}, 200
        for model in wanted:
            try:
                decision: str = self._debouncer.ask(model)
            except VisionyardError as error:
                decision, status = "failed", 502
                log("error", "not started", model=model, problem=str(error))
            decisions[model] = decision
            self.metrics.decisions.labels(model, decision).inc()
            log("info", "asked", model=model, decision=decision)
        self._show_starts()
        return status, {"decisions": decisions}

    def _show_starts(self) -> None:
        for model, started_at in self._debouncer.last_starts().items():
            self.metrics.last_start.labels(model).set(started_at)


def log(level: str, event: str, **values: Any) -> None:
    """Write a JSON line to standard error."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(json.dumps({"time": now, "level": level, "event": event, **values}, default=str) + "\n")


class ReceiverServer(ThreadingHTTPServer):
    """The HTTP server: a thread a connection, and only so many of them."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        """Listen on `address`; port 0 takes any free one."""
        self.receiver = receiver
        self._slots = threading.BoundedSemaphore(CONNECTION_COUNT)
        super().__init__(address, _Handler)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or with 503 at once when too many are busy."""
        if not self._slots.acquire(blocking=False):
            _turn_away(request)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for another."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell a fault of ours or of the connection in one line."""
        log("error", "connection failed", problem=f"{type(sys.exception()).__name__}: {sys.exception()}")


def _turn_away(request: socket) -> None:
    try:
        request.sendall(_BUSY)
    except OSError:
        log("warning", "connection failed", problem="it was closed while being turned away")


class _Handler(BaseHTTPRequestHandler):
    server: ReceiverServer
    server_version = "visionyard"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def do_GET(self) -> None:
        metrics = self.server.receiver.metrics
        if self.path == "/health":
            self._answer(200, b'{"status": "ok"}\n')
        elif self.path == "/metrics":
            self._answer(200, generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)
        else:
            self._refuse(NotFoundError(f"{self.path}: expected /alerts, /health or /metrics"))

    def do_POST(self) -> None:
        try:
            if self.path != "/alerts":
                raise NotFoundError(f"{self.path}: expected POST to /alerts")
            self.server.receiver.check_token(self.headers.get("Authorization", ""))
            status, answer = self.server.receiver.receive(self._body())
        except VisionyardError as error:
            self._refuse(error)
            return
        self._count(status)
        self._answer(status, json.dumps(answer).encode() + b"\n")

    def _body(self) -> bytes:
        text = self.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdigit()):
            raise RequestError(f"Content-Length {text!r}: expected the number of bytes; chunks are not read")
        if len(text) > 9 or int(text) > LARGEST_BODY_BYTES:
            raise TooLargeError(f"the body has {text[:12]} bytes, at most {LARGEST_BODY_BYTES} are read")
        body = self.rfile.read(int(text))
        if len(body) < int(text):
            raise RequestError(f"the body ended after {len(body)} of {text} bytes")
        return body

    def _refuse(self, error: VisionyardError) -> None:
        status = _STATUSES.get(type(error), 400)
        # What the caller still sends is not read, so the connection cannot be used again.
        self.close_connection = True
        if self.command == "POST":
            self._count(status)
            log("warning", "refused", status=status, problem=str(error))
        self._answer(status, json.dumps({"error": str(error)}).encode() + b"\n")

    def _count(self, status: int) -> None:
        self.server.receiver.metrics.requests.labels(str(status)).inc()

    def _answer(self, status: int, body: bytes, *, content_type: str = "application/json") -> None:
        headers: Mapping[str, str] = {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close" if self.close_connection else "keep-alive",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the base class)
        """Write nothing: what matters has its own line."""
