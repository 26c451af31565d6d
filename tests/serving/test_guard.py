"""Keys, rates and bounds of a server that asks for them, by REST and gRPC."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from visionyard.serving.kserve_sdk import GRPCInferenceServiceStub, pb

KEY, OTHER = "s3cret-key-one", "s3cret-key-two"


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with two keys."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# who may ask\n\nalice:{KEY}\n{OTHER}\n")
    return path


@pytest.fixture(scope="module")
def guarded(start_server: Callable[..., Any], bundle_paths: dict[str, Path], keys_file: Path) -> Any:
    """Return a server with keys and tight bounds."""
    settings = [
        f"auth.keys_file={keys_file}",
        "limits.max_body_mib=0.5",
        "limits.body_timeout_s=0.5",
        "limits.max_connections=40",
        "server.root_path=/vision",
        "cors.origins=[https://app.example.com]",
    ]
    return start_server(
        str(bundle_paths["kinds"]), "--name", "kinds", *[part for each in settings for part in ("--set", each)]
    )


@pytest.fixture
def client(guarded: Any) -> Any:
    """Return a client with a valid key."""
    with httpx.Client(base_url=guarded.url, headers={"x-api-key": KEY}, timeout=20) as made:
        yield made


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 401, id="none"),
        pytest.param({"authorization": "Bearer nope"}, 401, id="wrong"),
        pytest.param({"authorization": "Bearer"}, 401, id="empty"),
        pytest.param({"authorization": f"Basic {KEY}"}, 401, id="other-scheme"),
        pytest.param({"authorization": "Bearer k\xe9y"}, 401, id="not-ascii"),
        pytest.param({"authorization": f"Bearer {KEY}"}, 200, id="bearer"),
        pytest.param({"x-api-key": KEY}, 200, id="x-api-key"),
        pytest.param({"x-api-key": OTHER}, 200, id="key-without-name"),
    ],
)
def test_a_key_opens_the_server(headers: dict[str, str], status: int, guarded: Any, images: dict[str, bytes]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}

    answer = httpx.post(f"{guarded.url}/predict", content=images["png"], headers=raw)

    assert answer.status_code == status, answer.text
    assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)


@pytest.mark.parametrize("path", ["/health", "/v2/health/ready", "/v2/health/live", "/metrics", "/docs"])
def test_some_routes_are_open(path: str, guarded: Any) -> None:
    assert httpx.get(guarded.url + path).status_code == 200


@pytest.mark.parametrize("path", ["/models", "/model/info", "/v2/models", "/v2/models/kinds", "/openapi.json", "/x"])
def test_others_are_not(path: str, guarded: Any) -> None:
    assert httpx.get(guarded.url + path).status_code == 401


def test_the_log_names_the_key_and_never_shows_it(guarded: Any, client: httpx.Client, images: dict[str, bytes]) -> None:
    client.post("/predict", content=images["png"], headers={"x-request-id": "who"})
    client.get("/metrics")

    (line,) = [each for each in guarded.log if each.get("request_id") == "who"]

    assert line["key"] == "alice"
    assert KEY not in "".join(guarded.log_lines)


def test_grpc_asks_for_the_key_too(guarded: Any, images: dict[str, bytes]) -> None:
    image = images["png"]
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", shape=[1], datatype="BYTES")
    request = pb.ModelInferRequest(
        model_name="kinds", inputs=[tensor], raw_input_contents=[len(image).to_bytes(4, "little") + image]
    )
    with grpc.insecure_channel(guarded.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest()).ready
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request)
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        assert stub.ModelInfer(request, metadata=(("authorization", f"Bearer {KEY}"),)).id


def test_keys_are_added_and_withdrawn_while_it_runs(guarded: Any, keys_file: Path) -> None:
    text = keys_file.read_text()
    keys_file.write_text(f"{text}bob:brand-new\n")
    deadline = time.monotonic() + 10
    headers = {"x-api-key": "brand-new"}
    while httpx.get(f"{guarded.url}/models", headers=headers).status_code != 200:
        assert time.monotonic() < deadline
    replaced = keys_file.with_name("next")
    replaced.write_text(text)
    replaced.replace(keys_file)
    while httpx.get(f"{guarded.url}/models", headers=headers).status_code != 401:
        assert time.monotonic() < deadline
    assert httpx.get(f"{guarded.url}/models", headers={"x-api-key": KEY}).status_code == 200


def test_a_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    answer = client.post("/predict", content=b"\0" * (2**19 + 1))

    assert answer.status_code == 413
    assert "524288" in answer.json()["error"]


def test_a_body_that_does_not_tell_its_length_is_refused_once_it_is_too_long(client: httpx.Client) -> None:
    answer = client.post("/predict", content=(b"\0" * 65536 for _ in range(20)))

    assert answer.status_code == 413


def test_a_body_of_terabytes_is_refused_before_it_is_sent(guarded: Any) -> None:
    answer = _talk(
        guarded,
        b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: "
        + KEY.encode()
        + b"\r\nContent-Length: 9999999999999\r\n\r\n",
    )

    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_that_trickles_is_given_up(guarded: Any) -> None:
    answer = _talk(
        guarded,
        b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: " + KEY.encode() + b"\r\nContent-Length: 100\r\n\r\nabc",
    )

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_id" in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"408", id="head-that-trickles"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 70_000, b"431", id="head-too-large"),
        pytest.param(b"\x16\x03\x01 nonsense\r\n\r\n", b"400", id="not-http"),
        pytest.param(b"", b"", id="nothing"),
    ],
)
def test_a_head_is_bounded_in_time_and_size(sent: bytes, status: bytes, guarded: Any) -> None:
    answer = _talk(guarded, sent)

    assert answer[9:12] == status
    if answer:
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == {"error", "request_id"}


def test_connections_are_counted(guarded: Any) -> None:
    host, port = guarded.url.removeprefix("http://").split(":")

    async def crowd() -> list[bytes]:
        pairs = await asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(60)))
        for _, writer in pairs:
            writer.write(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = await asyncio.gather(*(_status(reader) for reader, _ in pairs))
        for _, writer in pairs:
            writer.close()
        return answers

    answers = asyncio.run(crowd())

    assert answers.count(b"200") >= 30
    assert answers.count(b"503") + answers.count(b"") >= 20
    assert set(answers) <= {b"200", b"503", b""}
    # And when they are gone, there is room again.
    deadline = time.monotonic() + 5
    while httpx.get(f"{guarded.url}/health").status_code != 200:
        assert time.monotonic() < deadline


async def _status(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.read(12))[9:12]
    except ConnectionError:
        return b""


def _talk(server: Any, sent: bytes) -> bytes:
    """Send bytes and return all that comes back until the server closes."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_it_works_behind_a_proxy_that_strips_the_prefix(client: httpx.Client, images: dict[str, bytes]) -> None:
    for path in ("/predict", "/vision/predict"):
        assert client.post(path, content=images["png"]).status_code == 200
    assert client.get("/openapi.json").json()["servers"] == [{"url": "/vision"}]


def test_other_origins_are_let_in_by_name_only(client: httpx.Client, guarded: Any) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    allowed = httpx.options(f"{guarded.url}/predict", headers={"origin": "https://app.example.com", **asked})
    other = httpx.options(f"{guarded.url}/predict", headers={"origin": "https://evil.example.com", **asked})

    assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers
    answer = client.get("/models", headers={"origin": "https://app.example.com"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"


def test_requests_beyond_the_rate_are_told_when_to_come_back(
    start_server: Callable[..., Any], bundle_paths: dict[str, Path], images: dict[str, bytes]
) -> None:
    running = start_server(
        str(bundle_paths["kinds"]), "--set", "rate_limit.requests_per_s=0.05", "--set", "rate_limit.burst=3"
    )
    with httpx.Client(base_url=running.url) as client:
        found = [client.post("/predict", content=images["png"]) for _ in range(5)]
        assert [each.status_code for each in found] == [200, 200, 200, 429, 429]
        assert 1 <= int(found[-1].headers["retry-after"]) <= 20
        assert client.get("/health").status_code == 200
    with grpc.insecure_channel(running.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        codes = []
        for _ in range(5):
            try:
                stub.ServerMetadata(pb.ServerMetadataRequest())
                codes.append("OK")
            except grpc.RpcError as error:
                known: Any = error
                codes.append(known.code().name)
    assert codes == ["OK", "OK", "OK", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"]


def test_both_ports_speak_tls(
    start_server: Callable[..., Any],
    bundle_paths: dict[str, Path],
    tls_files: tuple[Path, Path],
    make_certificate: Callable[[Path], tuple[Path, Path]],
    images: dict[str, bytes],
) -> None:
    certificate, key = tls_files
    running = start_server(
        str(bundle_paths["kinds"]), "--name", "kinds",
        "--set", f"tls.cert_file={certificate}", "--set", f"tls.key_file={key}",
    )  # fmt: skip

    _check_tls(running, certificate, images["png"])
    # A certificate that is replaced, as cert-manager does, is used without a restart.
    renewed = make_certificate(certificate.parent / "renewed")
    for source, target in zip(renewed, tls_files, strict=True):
        source.replace(target)
    deadline = time.monotonic() + 20
    while True:
        try:
            _check_tls(running, certificate, images["png"])
            return
        except (httpx.ConnectError, grpc.RpcError):
            assert time.monotonic() < deadline


def _check_tls(running: Any, certificate: Path, image: bytes) -> None:
    assert running.url.startswith("https://"), "".join(running.log_lines)
    context = ssl.create_default_context(cafile=str(certificate))
    assert httpx.post(f"{running.url}/predict", content=image, verify=context).status_code == 200
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    with grpc.secure_channel(running.grpc, credentials) as channel:
        assert GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=5).ready
