"""Servers whose answers a test sets, over REST and gRPC."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = tuple[int, dict[str, str], Any]


class ScriptedServer:
    """Answers each request with the next of `answers`, the last one again and again; keeps what was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer | Callable[[bytes], Answer]] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connection_count = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connection_count += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append(
                    (f"{self.command} {self.path}", {name.lower(): text for name, text in self.headers.items()}, body)
                )
                answer = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                status, more, value = answer(body) if callable(answer) else answer
                if status == 0:  # the connection breaks
                    self.close_connection = True
                    return
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response_only(status)
                for name, text in {"Content-Length": str(len(data)), **more}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


class ScriptedGrpcServer:
    """Answers ModelInfer by `answer(request, context)`; keeps the requests and their metadata."""

    def __init__(self) -> None:
        import grpc

        from visionyard.client.messages import message

        self.answer: Callable[[Any, Any], Any] = lambda request, context: message("InferResponse")()
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []

        def infer(request: Any, context: Any) -> Any:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            return self.answer(request, context)

        handler = grpc.unary_unary_rpc_method_handler(
            infer,
            request_deserializer=message("InferRequest").FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        handlers = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})
        self.server.add_generic_rpc_handlers((handlers,))
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.url = f"grpc://127.0.0.1:{port}"
        self.server.start()


@pytest.fixture
def grpc_server() -> Iterator[ScriptedGrpcServer]:
    scripted = ScriptedGrpcServer()
    yield scripted
    scripted.server.stop(None).wait()


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    from visionyard.client import faults

    monkeypatch.setattr(faults, "_FIRST_WAIT_S", 0.01)
