"""Fetching images by URL: only allowed hosts, only addresses that were checked, only so much, only so long."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from visionyard.config.serving_config import UrlInputsConfig
from visionyard.errors import DeniedError, RequestError, TooLargeError
from visionyard.serving.url_inputs import UrlFetcher, is_public

PICTURE = b"\xff\xd8picture" * 100


class Site(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        site: Any = self.server
        site.asked.append((self.path, self.headers["Host"]))
        kind, _, rest = self.path.partition("?")[0].strip("/").partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("location", rest.replace("PORT", str(site.server_port)))
            self.end_headers()
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            while not site.is_over.is_set():
                try:
                    self.wfile.write(b"x" * 65536)
                except OSError:
                    return
        elif kind == "silent":
            site.is_over.wait(10)
        elif kind == "garbage":
            self.wfile.write(b"not http at all\r\n\r\n")
        else:
            self.send_response(404 if kind == "missing" else 200)
            self.send_header("Content-Length", str(len(PICTURE)))
            self.end_headers()
            self.wfile.write(PICTURE)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.asked = []
    server.is_over = threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.is_over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(url: str, allow: list[str], **options: float) -> bytes:
    async def run() -> bytes:
        fetcher = UrlFetcher(UrlInputsConfig(allow=allow, **options))
        try:
            return await fetcher.fetch(url)
        finally:
            await fetcher.close()

    return asyncio.run(run())


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """A name server: for each name the answers it gives, one after the other, the last for ever."""
    table: dict[str, list[list[str]]] = {}
    plain = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        host = host.decode() if isinstance(host, bytes) else host
        if host not in table:
            return plain(host, port, *args, **kwargs)
        answers = table[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


def test_an_address_that_is_allowed_literally(site: Any) -> None:
    url = f"http://127.0.0.1:{site.server_port}/a.jpg?x=1#part"
    assert fetch(url, ["127.0.0.1"]) == PICTURE
    assert site.asked == [("/a.jpg?x=1", f"127.0.0.1:{site.server_port}")]


def test_off_by_default() -> None:
    with pytest.raises(DeniedError, match=r"switched off here.*url_inputs\.allow"):
        fetch("http://example.com/a.jpg", [])


@pytest.mark.parametrize(
    ("url", "allow", "error", "message"),
    [
        pytest.param("http://b.example/x", ["a.example"], DeniedError, "host b.example is not among", id="other host"),
        pytest.param("http://a.example/x", ["*.a.example"], DeniedError, "not among", id="wildcard without a part"),
        pytest.param("http://ba.example/x", ["*.a.example"], DeniedError, "not among", id="name that ends alike"),
        pytest.param("http://10.0.0.1/x", ["*.example"], DeniedError, "not among", id="address not listed"),
        pytest.param("http://0x7f.1/x", ["127.0.0.1"], DeniedError, "not among", id="address in odd letters"),
        pytest.param("http://2130706433/x", ["127.0.0.1"], DeniedError, "not among", id="address as a number"),
        pytest.param("http://[::ffff:127.0.0.1]/x", ["127.0.0.1"], DeniedError, "not among", id="mapped address"),
        pytest.param("file:///etc/passwd", ["a.example"], RequestError, r"expected http\(s\)", id="file"),
        pytest.param("gopher://a.example/x", ["a.example"], RequestError, r"expected http\(s\)", id="gopher"),
        pytest.param("http:///x", ["a.example"], RequestError, r"expected http\(s\)", id="no host"),
        pytest.param("http://u:p@a.example/x", ["a.example"], RequestError, "without user", id="password"),
        pytest.param("http://a.example:0/x", ["a.example"], RequestError, r"expected http\(s\)", id="port 0"),
        pytest.param("http://a.example:99999/x", ["a.example"], RequestError, "not a URL", id="port too high"),
        pytest.param("http://[::1/x", ["a.example"], RequestError, "not a URL", id="half a bracket"),
        pytest.param("http://a.example/x y", ["a.example"], RequestError, "escaped URL", id="space"),
        pytest.param("http://a.example/\r\nX: y", ["a.example"], RequestError, "escaped URL", id="line break"),
        pytest.param("http://a.example/\u00e4", ["a.example"], RequestError, "escaped URL", id="letter not ASCII"),
        pytest.param("http://a.example/" + "x" * 3000, ["a.example"], RequestError, "at most 2048", id="long"),
    ],
)
def test_refused_before_any_look_up(
    url: str, allow: list[str], error: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*args: object, **kwargs: object) -> None:
        raise AssertionError("the name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(error, match=message) as caught:
        fetch(url, allow)
    assert type(caught.value) is error
    assert "p@" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "fd12::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:a00:1::",
        "2001:0:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_a_name_with_an_inner_address_is_refused(address: str, names: dict) -> None:
    assert not is_public(address)
    names["a.example"] = [["93.184.216.34", address]]
    with pytest.raises(DeniedError, match=r"a\.example has the address .*, which is not public"):
        fetch("http://a.example/x.jpg", ["a.example"])


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


def test_the_connection_goes_to_the_address_that_was_checked(names: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    # A name server that answers a public address first and an inner one from then on.
    names["a.example"] = [["93.184.216.34"], ["127.0.0.1"]]
    connected: list[tuple[str, int]] = []

    async def connect(self: object, host: str, port: int, *args: object, **kwargs: object) -> None:
        import httpcore

        connected.append((host, port))
        raise httpcore.ConnectError("refused by the test")

    monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect)
    with pytest.raises(RequestError, match="cannot be fetched: refused by the test"):
        fetch("http://a.example:8080/x.jpg", ["a.example"])
    assert connected == [("93.184.216.34", 8080)]
    assert names["a.example"] == [["127.0.0.1"]], "looked up once"


def test_redirects_stay_within_the_allowed_hosts(site: Any, names: dict) -> None:
    start = f"http://127.0.0.1:{site.server_port}"
    assert fetch(f"{start}/to//a.jpg", ["127.0.0.1"]) == PICTURE
    assert fetch(f"{start}/to/{start}/b.jpg", ["127.0.0.1"]) == PICTURE
    with pytest.raises(DeniedError, match=r"host 169\.254\.169\.254 is not among"):
        fetch(f"{start}/to/http://169.254.169.254/latest", ["127.0.0.1"])
    names["inner.example"] = [["127.0.0.1"]]
    with pytest.raises(DeniedError, match="which is not public"):
        fetch(f"{start}/to/http://inner.example:PORT/x", ["127.0.0.1", "inner.example"])
    with pytest.raises(RequestError, match=r"expected http\(s\)"):
        fetch(f"{start}/to/file:///etc/passwd", ["127.0.0.1"])
    with pytest.raises(RequestError, match="more than 3 redirects"):
        fetch(f"{start}/to/{start}/to/{start}/to/{start}/to/{start}/c.jpg", ["127.0.0.1"])


@pytest.mark.parametrize(
    ("path", "options", "error", "message"),
    [
        pytest.param("missing", {}, RequestError, "the server answered 404; expected 200", id="not there"),
        pytest.param("endless", {"max_mib": 0.5}, TooLargeError, r"larger than 0\.5 MiB", id="endless"),
        pytest.param("silent", {"timeout_s": 0.2}, RequestError, r"not there within 0\.2 s", id="silent"),
        pytest.param("garbage", {}, RequestError, "cannot be fetched", id="not HTTP"),
    ],
)
def test_what_a_server_may_do(site: Any, path: str, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        fetch(f"http://127.0.0.1:{site.server_port}/{path}?token=secret", ["127.0.0.1"], **options)
    assert "secret" not in str(caught.value)


def test_a_host_that_refuses_and_one_that_is_not_known(names: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(RequestError, match="cannot be fetched"):
            fetch(f"http://127.0.0.1:{port}/x", ["127.0.0.1"])

    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RequestError, match="the name is not known"):
        fetch("http://nowhere.example/x", ["nowhere.example"])
    with pytest.raises(RequestError, match="cannot be fetched"):
        fetch(f"http://{'a' * 64}.b.example/x", ["*.b.example"])


def test_many_at_once(site: Any) -> None:
    async def run() -> list[bytes]:
        fetcher = UrlFetcher(UrlInputsConfig(allow=["127.0.0.1"]))
        url = f"http://127.0.0.1:{site.server_port}/a.jpg"
        found = await asyncio.gather(*(fetcher.fetch(url) for _ in range(20)))
        await fetcher.close()
        return list(found)

    assert asyncio.run(run()) == [PICTURE] * 20
