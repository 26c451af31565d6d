"""What MLflow keeps is fetched through its server, whose store may have an address that only the server knows."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from visionyard.tracking import runs
from visionyard.tracking.registry import PLACE, ModelVersion, Registry

_API, _FILES = "/api/2.0/mlflow/", "/api/2.0/mlflow-artifacts/"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of what answers as MLflow 3.17 does in front of an S3 store that only it can reach."""
    for variable in runs.MLFLOW_SETTINGS:
        monkeypatch.setenv(variable, "")  # so that what the library sets is taken back
        monkeypatch.delenv(variable)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            run = {"run_id": "r", "artifact_uri": "mlflow-artifacts:/0/r/artifacts"}
            answers = {
                _API + "runs/get": {"run": {"info": run}},
                "/api/3.0/mlflow/server-info": {"multipart_downloads_enabled": True},
                _FILES + "presigned/0/r/artifacts/models/bundle/model.json": {
                    "url": "http://store.invalid:9000/model.json",
                    "headers": {},
                    "file_size": 5,
                },
            }
            if path == _FILES + "artifacts":
                is_folder = query["path"][0].endswith("/bundle")
                file = {"path": "model.json", "is_dir": False, "file_size": 5}
                answers[path] = {"files": [file] if is_folder else []}
            is_file = path == _FILES + "artifacts/0/r/artifacts/models/bundle/model.json"
            body = b"bytes" if is_file else json.dumps(answers.get(path, {})).encode()
            self.send_response(200 if is_file or path in answers else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_champion_is_fetched_where_its_store_cannot_be_reached(server: str, tmp_path: Path) -> None:
    version = ModelVersion(1, "r", {PLACE: "models"}, 0)

    folder = Registry("cells", server).fetch(version, "bundle", tmp_path)

    assert (folder / "model.json").read_bytes() == b"bytes"
