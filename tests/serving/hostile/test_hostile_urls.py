"""Images by URL as a way into the network behind the server: none."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

# Ordinarily milliseconds; loose, so that a busy machine makes no failure.
AWAKE_S = 3.0


class _Host(ThreadingHTTPServer):
    """A web server on the loopback address that the config allows; remembers what it was asked for."""

    daemon_threads = True

    def __init__(self, image: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.image = image
        self.asked: list[str] = []
        self.stop = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Host

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind, _, rest = self.path[1:].partition("?")
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", rest)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            while not self.server.stop.is_set():
                self.wfile.write(bytes(65536))
        elif kind == "silent":
            self.server.stop.wait(10)
        elif kind == "gzip":
            self._send(b"\x1f\x8b" + bytes(1000), ("Content-Encoding", "gzip"))
        else:
            self._send(self.server.image)

    def _send(self, data: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def host(hostile_png: bytes) -> Iterator[_Host]:
    running = _Host(hostile_png)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.stop.set()
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any], bundle_arguments: list[str]) -> Any:
    """A server that takes images from one loopback address, and from names that lead where they should not."""
    settings = ["allow=[127.0.0.1, localhost, '*.localhost', rebind.example]", "max_mib=1", "timeout_s=1.5"]
    arguments = [part for each in settings for part in ("--set", f"url_inputs.{each}")]
    running = start_server(*bundle_arguments, *arguments)
    assert running.process.poll() is None, "".join(running.log_lines)
    return running


def ask(http: httpx.Client, url: Any) -> httpx.Response:
    return http.post("/predict?model=boxes", json={"images": [{"url": url}]})


def test_an_allowed_address_is_fetched(http: httpx.Client, host: _Host) -> None:
    """Without this the refusals below would prove nothing."""
    answer = ask(http, f"{host.url}/image.png")
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("localhost", id="localhost"),
        pytest.param("anything.localhost", id="below localhost"),
        pytest.param("127.0.0.2", id="another loopback"),
        pytest.param("127.1", id="short"),
        pytest.param("2130706433", id="decimal"),
        pytest.param("0x7f000001", id="hexadecimal"),
        pytest.param("0x7f.0.0.1", id="hexadecimal parts"),
        pytest.param("0177.0.0.1", id="octal"),
        pytest.param("017700000001", id="octal whole"),
        pytest.param("0.0.0.0", id="any"),
        pytest.param("0", id="zero"),
        pytest.param("[::1]", id="v6 loopback"),
        pytest.param("[::]", id="v6 any"),
        pytest.param("[::ffff:127.0.0.1]", id="v4 mapped"),
        pytest.param("[::ffff:7f00:1]", id="v4 mapped, hexadecimal"),
        pytest.param("[0:0:0:0:0:ffff:127.0.0.1]", id="v4 mapped, long"),
        pytest.param("[64:ff9b::7f00:1]", id="NAT64"),
        pytest.param("[2002:7f00:1::]", id="6to4"),
        pytest.param("[::127.0.0.1]", id="v4 compatible"),
        pytest.param("[fe80::1%25lo]", id="v6 with a zone"),
        pytest.param("127.0.0.1.", id="dot behind"),
        pytest.param("①②⑦.⓪.⓪.①", id="circled digits"),
        pytest.param("127。0。0。2", id="full-width dots"),
        pytest.param("127.0.0.1.nip.io", id="name that looks like it"),
        pytest.param("127.0.0.1\\@example.com", id="backslash"),
        pytest.param("example.com@127.0.0.1", id="user"),
        pytest.param("user:word@127.0.0.1", id="user and password"),
        pytest.param("127.0.0.1:80@example.com", id="address as user"),
        pytest.param("127.0.0.1%00.example.com", id="NUL"),
        pytest.param("127.0.0.1%2f.example.com", id="slash"),
        pytest.param("127.0.0.1#.example.com", id="fragment"),
    ],
)
def test_another_spelling_of_an_inner_address_is_refused(
    http: httpx.Client, host: _Host, hostile: SimpleNamespace, name: str
) -> None:
    """The host listens on the port, so that only a refusal keeps the request from it."""
    host.asked.clear()
    port = "" if "#" in name else f":{host.server_port}"
    answer = ask(http, f"http://{name}{port}/secret")
    hostile.refused(answer, 400, 403)
    assert host.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/iam/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://100.100.100.200/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://kubernetes.default.svc/",
        "https://127.0.0.2:6443/",
        "file:///etc/passwd",
        "file://127.0.0.1/etc/passwd",
        "FILE:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "ftp://127.0.0.1/x",
        "dict://127.0.0.1:11211/stats",
        "data:image/png;base64,iVBORw0KGgo=",
        "jar:http://127.0.0.1!/x",
        "unix:///var/run/docker.sock",
        "//127.0.0.1/x",
        "/etc/passwd",
        "127.0.0.1/x",
        "http:///x",
        "http://",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://127.0.0.1:abc/",
        "http://[::1",
        "http://[127.0.0.1]/",
        "http://127.0.0.1:80\r\nX: y/",
        "http://127.0.0.1/ HTTP/1.1\r\nX: y",
        "http://\0/",
        " http://127.0.0.1/",
        "",
        "x" * 100_000,
        "http://" + "a." * 5000 + "com/",
        "http://rebind.example/",
    ],
    ids=lambda url: ascii(url)[1:41] or "empty",
)
def test_what_is_not_an_allowed_http_address_is_refused(http: httpx.Client, hostile: SimpleNamespace, url: str) -> None:
    message = hostile.refused(ask(http, url), 400, 403)
    assert "root:" not in message


@pytest.mark.parametrize(
    "place",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.2:{port}/secret",
        "http://[::1]:{port}/secret",
        "http://localhost:{port}/secret",
        "http://2130706433:{port}/secret",
        "http://user:word@127.0.0.1:{port}/secret",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "//127.0.0.2:{port}/secret",
        "http://[::ffff:127.0.0.1]:{port}/secret",
    ],
)
def test_a_redirect_leads_nowhere_else(http: httpx.Client, host: _Host, hostile: SimpleNamespace, place: str) -> None:
    host.asked.clear()
    hostile.refused(ask(http, f"{host.url}/redirect?{place.format(port=host.server_port)}"), 400, 403)
    assert not any("secret" in path and "redirect" not in path for path in host.asked)


def test_a_redirect_to_itself_ends(http: httpx.Client, host: _Host, hostile: SimpleNamespace) -> None:
    host.asked.clear()
    hostile.refused(ask(http, f"{host.url}/redirect?{host.url}/redirect?/redirect"), 400)
    assert len(host.asked) <= 6


def test_a_picture_without_end_is_refused(http: httpx.Client, host: _Host, hostile: SimpleNamespace) -> None:
    assert "1 MiB" in hostile.refused(ask(http, f"{host.url}/endless"), 413)


def test_a_host_that_says_nothing_is_given_up(
    http: httpx.Client, host: _Host, hostile: SimpleNamespace, stays_awake: Callable[[], float]
) -> None:
    answer = ask(http, f"{host.url}/silent")
    hostile.refused(answer, 400, 504)
    assert answer.elapsed.total_seconds() < 5
    assert stays_awake() < AWAKE_S


def test_a_compressed_answer_is_not_unfolded(http: httpx.Client, host: _Host, hostile: SimpleNamespace) -> None:
    hostile.refused(ask(http, f"{host.url}/gzip"), 400)


@pytest.mark.parametrize("path", ["/v1/models/boxes:predict", "/predict/image?model=boxes"])
def test_every_door_for_urls_is_watched(http: httpx.Client, hostile: SimpleNamespace, path: str) -> None:
    key = "instances" if path.startswith("/v1") else "images"
    answer = http.post(path, json={key: [{"url": "http://169.254.169.254/"}]})
    hostile.refused(answer, 400, 403)


def test_the_secret_part_of_a_url_is_neither_answered_nor_logged(
    http: httpx.Client, server: Any, hostile: SimpleNamespace
) -> None:
    message = hostile.refused(ask(http, "http://10.0.0.1/x?token=hunter2-abc"), 400, 403)
    assert "hunter2-abc" not in message
    assert not any("hunter2-abc" in line for line in server.log_lines)
