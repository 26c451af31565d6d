"""Connections that lie, stall or crowd: lengths, chunks without end, slow-loris, heads, a thousand at once."""

import contextlib
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest

# Ordinarily milliseconds; loose, so that a busy machine makes no failure.
AWAKE_S = 3.0
PREDICT = "/predict?model=boxes"
BODY_TIMEOUT_S, MAX_CONNECTIONS = 1.5, 1100
HEAD = b"POST /predict?model=boxes HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any], bundle_arguments: list[str]) -> Any:
    """A server with little patience."""
    limits = {"body_timeout_s": BODY_TIMEOUT_S, "max_connections": MAX_CONNECTIONS}
    settings = [part for name, value in limits.items() for part in ("--set", f"limits.{name}={value}")]
    running = start_server(*bundle_arguments, *settings)
    assert running.process.poll() is None, "".join(running.log_lines)
    return running


@contextlib.contextmanager
def opened(wire: Any, count: int) -> Iterator[list[socket.socket]]:
    """Open connections; each costs a file here and in the server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 200), hard))
    connections: list[socket.socket] = []
    try:
        connections += (wire.connect() for _ in range(count))
        yield connections
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "length",
    ["-1", "abc", "1.5", "+5", "0x10", "9" * 30, "9" * 5000, "5, 6", "5 5", ""],
    ids=lambda text: text[:8] or "empty",
)
def test_a_content_length_that_is_none_is_refused(wire: Any, hostile: SimpleNamespace, length: str) -> None:
    hostile.refused(wire.send(HEAD + f"Content-Length: {length}\r\n\r\nhello".encode()), 400, 413)


def test_two_different_lengths_are_refused(wire: Any, hostile: SimpleNamespace) -> None:
    hostile.refused(wire.send(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), 400)


def test_length_and_chunks_together_are_refused(wire: Any, hostile: SimpleNamespace) -> None:
    """Two readings of one message smuggle a second request past a proxy."""
    data = HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with contextlib.closing(wire.connect()) as connection:
        connection.sendall(data + b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        hostile.refused(hostile.read_answer(connection), 400)
        assert hostile.read_answer(connection).status == 0


def test_a_body_larger_than_allowed_is_refused_before_it_is_sent(wire: Any, hostile: SimpleNamespace) -> None:
    start = time.monotonic()
    message = hostile.refused(wire.send(HEAD + f"Content-Length: {2**40}\r\n\r\n".encode()), 413)
    assert str(20 * 2**20) in message
    assert time.monotonic() - start < BODY_TIMEOUT_S


def test_a_body_longer_than_it_says_does_not_become_an_answer_to_someone_else(
    wire: Any, hostile: SimpleNamespace
) -> None:
    """What follows the five bytes is the next request, and it is none."""
    with contextlib.closing(wire.connect()) as connection:
        connection.sendall(HEAD + b"Content-Length: 5\r\n\r\nhello, this is more than five")
        hostile.refused(hostile.read_answer(connection), 400)


def test_a_body_shorter_than_it_says_is_given_up(wire: Any, hostile: SimpleNamespace) -> None:
    start = time.monotonic()
    answer = wire.send(HEAD + b"Content-Length: 1000\r\n\r\nhello")
    assert "did not arrive" in hostile.refused(answer, 408)
    assert time.monotonic() - start < BODY_TIMEOUT_S + 5


def test_a_caller_who_hangs_up_in_the_middle_costs_nothing(wire: Any) -> None:
    assert wire.send(HEAD + b"Content-Length: 1000\r\n\r\nhello", is_ended=True).status in {0, 400, 408}


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"zz\r\nhello\r\n0\r\n\r\n", id="size no number"),
        pytest.param(b"-5\r\nhello\r\n0\r\n\r\n", id="size below none"),
        pytest.param(b"ffffffffffffffffff\r\nhello", id="size beyond 64 bit"),
        pytest.param(b"5" + b"0" * 70_000 + b"\r\nhello", id="size without end"),
        pytest.param(b"5\r\nhelloworld\r\n0\r\n\r\n", id="more than it says"),
        pytest.param(b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n", id="long extension"),
    ],
)
def test_chunks_that_are_none_are_refused(wire: Any, hostile: SimpleNamespace, chunks: bytes) -> None:
    hostile.refused(wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks), 400, 408, 413, 431)


def test_chunks_without_end_are_refused_and_not_kept(wire: Any, server: Any, hostile: SimpleNamespace) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    answer = wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 60)
    # The refusal may be lost when the connection is closed on what is still being sent.
    if answer.status:
        hostile.refused(answer, 413)
    assert process.memory_info().rss - before < 100 * 2**20


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(100), id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50), id="HTTP/2"),
        pytest.param(b"SSH-2.0-OpenSSH_9.0\r\n", id="SSH"),
        pytest.param(b"\0" * 1000, id="NUL"),
        pytest.param(b"GET\r\n\r\n", id="no target"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(b"G\xc3\x8bT / HTTP/1.1\r\nHost: x\r\n\r\n", id="method"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA\0B: c\r\n\r\n", id="NUL in a header's name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", id="NUL in a header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n : b\r\n\r\n", id="header without name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", id="space before the colon"),
    ],
)
def test_what_is_not_http_is_refused(wire: Any, hostile: SimpleNamespace, data: bytes) -> None:
    hostile.refused(wire.send(data), 400)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"X: " + b"y" * 70_000 + b"\r\n", id="one of 70 kB"),
        pytest.param(b"X: y\r\n" * 20_000, id="twenty thousand"),
        pytest.param(b"X" * 70_000 + b": y\r\n", id="name of 70 kB"),
        pytest.param(b"Cookie: " + b"a=b; " * 200_000 + b"\r\n", id="cookies of 1 MB"),
    ],
)
def test_a_head_without_measure_is_refused(wire: Any, hostile: SimpleNamespace, lines: bytes) -> None:
    answer = wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
    if answer.status:  # closed on what is still being sent, the refusal may be lost
        hostile.refused(answer, 400, 431)


def test_a_long_target_is_refused(wire: Any, hostile: SimpleNamespace) -> None:
    answer = wire.send(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    if answer.status:
        hostile.refused(answer, 400, 404, 414, 431)


@pytest.mark.parametrize(
    "request_id", ["a\tb", "x" * 65, "é", "a b", "<script>", "../x", "%0d%0aSet-Cookie:1"], ids=lambda text: text[:8]
)
def test_a_request_id_that_is_none_is_replaced(wire: Any, request_id: str) -> None:
    """Whatever comes back in a header or a log line was made of letters, digits and three signs."""
    answer = wire.send(f"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: {request_id}\r\n\r\n".encode())
    assert answer.status == 200
    assert request_id not in answer.head
    assert "x-request-id: " in answer.head.lower()


def test_a_carriage_return_in_a_header_makes_no_second_one(wire: Any, hostile: SimpleNamespace) -> None:
    answer = wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\rSet-Cookie: b\r\n\r\n")
    hostile.refused(answer, 400)
    assert "set-cookie" not in answer.head.lower()


def closes_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side ends a connection in time, whatever it says before."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([connection], [], [], left)[0]:
            try:
                if not connection.recv(65536):
                    return True
            except OSError:
                return True
    return False


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        pytest.param(b"", b"", id="silent"),
        pytest.param(b"GET /health HT", b"", id="half a line"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n", id="a header at a time"),
        pytest.param(HEAD + b"Content-Length: 1000\r\n\r\n", b"x", id="a byte of the body at a time"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", id="a chunk at a time"),
    ],
)
def test_the_slow_are_closed_and_the_others_served(
    wire: Any, stays_awake: Callable[[], float], first: bytes, drip: bytes
) -> None:
    with opened(wire, 40) as connections:
        for connection in connections:
            connection.sendall(first)
        end = time.monotonic() + BODY_TIMEOUT_S + 4
        waiting = list(connections)
        while waiting and time.monotonic() < end:
            assert stays_awake() < AWAKE_S
            for connection in waiting:
                with contextlib.suppress(OSError):
                    connection.sendall(drip)
            waiting = [each for each in waiting if not closes_within(each, 0.005)]
        assert not waiting, f"{len(waiting)} of 40 are still open"


def test_an_answer_that_nobody_reads_stops_no_one(wire: Any, stays_awake: Callable[[], float]) -> None:
    with opened(wire, 20) as connections:
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        assert max(stays_awake() for _ in range(20)) < AWAKE_S


def test_a_thousand_connections_are_held_and_the_server_answers(wire: Any, stays_awake: Callable[[], float]) -> None:
    with opened(wire, 1000):
        assert max(stays_awake() for _ in range(5)) < AWAKE_S


def test_connections_beyond_the_bound_are_told_so(wire: Any, hostile: SimpleNamespace, http: httpx.Client) -> None:
    assert http.get("/health").status_code == 200  # keeps its connection
    with opened(wire, MAX_CONNECTIONS + 20) as connections:
        answer = hostile.read_answer(connections[-1])
        assert "connections" in hostile.refused(answer, 503)
        assert "retry-after" in answer.head.lower()
        assert http.get("/health").status_code == 200


def test_pipelined_requests_are_answered_in_order(wire: Any) -> None:
    with contextlib.closing(wire.connect()) as connection:
        one = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nX-Request-Id: n%d\r\n\r\n"
        connection.sendall(b"".join(one % number for number in range(100)))
        data = b""
        while data.count(b"HTTP/1.1 200") < 100 and (part := connection.recv(65536)):
            data += part
    places = [data.find(b"x-request-id: n%d\r\n" % number) for number in range(100)]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAA\r\n", id="websocket"),
        pytest.param(b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAAA\r\n", id="h2c"),
        pytest.param(b"Expect: 200-maybe\r\n", id="expectation"),
        pytest.param(b"Connection: keep-alive, close, Content-Length\r\n", id="connection"),
        pytest.param(b"Range: bytes=0-99999999999\r\n", id="range"),
        pytest.param(b"Host: y\r\nHost: z\r\n", id="several hosts"),
        pytest.param(
            b"X-Forwarded-Prefix: ../../\r\nX-Forwarded-Host: evil\r\nForwarded: host=evil\r\n", id="forwarded"
        ),
    ],
)
def test_a_header_that_asks_for_more_changes_nothing(wire: Any, hostile: SimpleNamespace, lines: bytes) -> None:
    answer = wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
    if answer.status != 200:
        hostile.refused(answer, 400, 417, 426)
    assert "evil" not in answer.head
