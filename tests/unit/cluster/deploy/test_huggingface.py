"""The target huggingface against a local stand-in of the Hub and of Inference Endpoints, by their own client."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.fixtures.plain_bundle import write_plain_bundle
from visionyard.cluster.deploy.huggingface import HuggingFaceTarget
from visionyard.config import DeploymentConfig
from visionyard.errors import ConfigError, DeployError
from visionyard.inference.bundle import Bundle

hub = pytest.importorskip("huggingface_hub")

TOKEN = "hf_stand_in"


class _Hub(BaseHTTPRequestHandler):
    """One repository and one endpoint, as far as our target asks for them."""

    server: Any

    def do_GET(self) -> None:
        state = self.server
        path = self.path.partition("?")[0]
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid credentials"}, 401)
        elif path.endswith("/tree/main"):
            files = state.commits[-1]["files"] if state.commits else {}
            self._answer([{"type": "file", "path": name, "size": 1, "oid": "x"} for name in files])
        elif "/commits/" in path:
            commits = [
                {
                    "id": each["id"],
                    "title": each["title"],
                    "message": "",
                    "date": "2026-01-01T00:00:00.000Z",
                    "authors": [],
                }
                for each in reversed(state.commits)
            ]
            self._answer(commits if "p=0" in self.path or "p=" not in self.path else [])
        elif path == "/served/v2/health/ready":
            self._answer({})
        elif path == "/v2/endpoint/yard":
            self._answer({"items": [state.endpoint] if state.endpoint else []})
        elif path == "/v2/endpoint/yard/digits" and state.endpoint:
            self._answer(state.endpoint)
        else:
            self._answer({"id": "yard/digits", "sha": "0" * 40}, 200 if path.startswith("/api/models") else 404)

    def do_POST(self) -> None:
        state, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            state.repository = json.loads(body)
            owner, name = state.repository["organization"], state.repository["name"]
            self._answer({"url": f"https://huggingface.co/{owner}/{name}"})
        elif "/preupload/" in self.path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            self._commit(body)
        elif self.path == "/v2/endpoint/yard":
            state.endpoint = self._running(json.loads(body))
            self._answer(state.endpoint)
        else:
            self._answer({})

    def do_PUT(self) -> None:
        change = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = {**self.server.endpoint["model"], **change.get("model", {})}
        self.server.endpoint = self._running({**self.server.endpoint, "model": model})
        self._answer(self.server.endpoint)

    def _commit(self, body: bytes) -> None:
        state = self.server
        lines = [json.loads(line) for line in body.splitlines()]
        files = dict(state.commits[-1]["files"]) if state.commits else {}
        for line in lines[1:]:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                files.pop(line["value"]["path"])
        oid = f"{len(state.commits) + 1:040d}"
        state.commits.append({"id": oid, "title": lines[0]["value"]["summary"], "files": files})
        self._answer(
            {"commitUrl": f"https://huggingface.co/yard/digits/commit/{oid}", "commitOid": oid, "hookOutput": ""}
        )

    def _running(self, endpoint: dict[str, Any]) -> dict[str, Any]:
        state = "failed" if self.server.fails else "running"
        status = {
            "state": state,
            "message": "no such image" if self.server.fails else "",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z",
            "readyReplica": 1,
        }
        if not self.server.fails:
            status["url"] = f"http://127.0.0.1:{self.server.server_port}/served"
        return {**endpoint, "status": status, "healthRoute": endpoint["model"]["image"]["custom"]["healthRoute"]}

    def _answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.commits, server.endpoint, server.repository, server.fails = [], None, None, False
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.INFERENCE_ENDPOINTS_ENDPOINT", f"{address}/v2")
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # what an endpoint asks with that the client gave
    server.api = hub.HfApi(endpoint=address, token=TOKEN)
    yield server
    server.shutdown()
    server.server_close()


def target(stand_in: Any, **values: Any) -> HuggingFaceTarget:
    options = {"repository": "yard/digits", **values.pop("options", {})}
    settings = {"target": "huggingface", "name": "digits", "image": "yard/serve:1", "timeout_s": 10, **values}
    return HuggingFaceTarget(DeploymentConfig(**settings, options=options), stand_in.api)


def test_a_bundle_is_uploaded_whole_and_served(stand_in: Any, tmp_path: Path) -> None:
    bundle = write_plain_bundle(tmp_path / "one")
    (bundle / "notes.txt").write_text("not of the bundle")
    done = target(stand_in).deploy(bundle)
    assert done.digest == Bundle.open(bundle).digest
    assert done.url.endswith("/served")
    assert stand_in.repository["visibility"] == "private"
    assert set(stand_in.commits[0]["files"]) == {"model.json", "model.onnx", "model.torchscript"}
    assert stand_in.commits[0]["files"]["model.json"] == (bundle / "model.json").read_bytes()
    model = stand_in.endpoint["model"]
    assert model["revision"] == stand_in.commits[0]["id"]
    assert model["image"]["custom"]["url"] == "yard/serve:1"
    assert model["image"]["custom"]["healthRoute"] == "/v2/health/ready"
    assert model["args"][0] == "/repository"


def test_a_rollback_is_a_revision(stand_in: Any, tmp_path: Path) -> None:
    bundles = [write_plain_bundle(tmp_path / content, content=content) for content in ("one", "two")]
    for bundle in bundles:
        target(stand_in).deploy(bundle)
    assert target(stand_in).status().digest == Bundle.open(bundles[1]).digest
    done = target(stand_in).rollback()
    assert done.digest == Bundle.open(bundles[0]).digest
    assert stand_in.endpoint["model"]["revision"] == stand_in.commits[0]["id"]
    assert target(stand_in).status().digest == done.digest
    with pytest.raises(DeployError, match="nothing to roll back to"):
        target(stand_in).rollback()


def test_the_upload_alone_needs_no_image(stand_in: Any, tmp_path: Path) -> None:
    done = target(stand_in, image="", options={"endpoint": False}).deploy(write_plain_bundle(tmp_path / "one"))
    assert done.url.endswith(f"/commit/{1:040d}")
    assert stand_in.endpoint is None


def test_an_endpoint_that_fails_says_why(stand_in: Any, tmp_path: Path) -> None:
    stand_in.fails = True
    with pytest.raises(DeployError, match=r"Inference Endpoint digits does not come to serve.*no such image"):
        target(stand_in).deploy(write_plain_bundle(tmp_path / "one"))


def test_a_refused_token_is_told_without_the_token(stand_in: Any, tmp_path: Path) -> None:
    stand_in.api.token = "hf_wrong"
    with pytest.raises(DeployError, match=r"Hugging Face, create_repo: .*401.*check HF_TOKEN") as raised:
        target(stand_in).deploy(write_plain_bundle(tmp_path / "one"))
    assert "hf_wrong" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        pytest.param({"options": {"repository": "digits"}}, "'digits': expected owner/name", id="no owner"),
        pytest.param({"image": ""}, r"deployment\.image is empty", id="no image"),
        pytest.param({"options": {"regoin": "eu"}}, r"options\.regoin: huggingface has no such option", id="misspelt"),
        pytest.param({"options": {"public": "yes"}}, r"public = 'yes': expected bool", id="wrong type"),
    ],
)
def test_settings_that_do_not_fit(values: dict[str, Any], match: str, stand_in: Any) -> None:
    with pytest.raises(ConfigError, match=match):
        target(stand_in, **values)
