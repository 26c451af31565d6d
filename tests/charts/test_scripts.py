"""The scripts that the chart puts into pods: rights of the store's users, and what the checks send."""

import io
import json
import re
import runpy
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from charts import make_chart

FILES = make_chart.CHART / "files"
BUCKETS = {"runs": "vy", "models": "vy-models", "mlflow": "vy-mlflow"}
KEYS = {
    f"{user}_{key}": f"{user.lower()}-{key[-3:].lower()}"
    for user in ("ROOT", "PIPELINE", "SERVING", "MLFLOW")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
}
ENVIRONMENT = {**{f"BUCKET_{role.upper()}": name for role, name in BUCKETS.items()}, **KEYS}


@pytest.fixture(scope="module")
def script() -> Any:
    """Return a function that loads a script of the chart."""
    return lambda name: runpy.run_path(str(FILES / f"{name}.py"))


def _allowed(policy: dict[str, Any], action: str, bucket: str) -> bool:
    return any(
        action in statement["Action"]
        and any(place in {f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"} for place in statement["Resource"])
        for statement in policy["Statement"]
    )


RIGHTS = [
    ("pipeline", "s3:PutObject", "vy", True),
    ("pipeline", "s3:DeleteObject", "vy-models", True),
    ("pipeline", "s3:GetObject", "vy-mlflow", False),
    ("serving", "s3:GetObject", "vy-models", True),
    ("serving", "s3:ListBucket", "vy-models", True),
    ("serving", "s3:PutObject", "vy-models", False),
    ("serving", "s3:GetObject", "vy", False),
    ("mlflow", "s3:PutObject", "vy-mlflow", True),
    ("mlflow", "s3:GetObject", "vy-models", False),
]


@pytest.mark.parametrize(("user", "action", "bucket", "is_allowed"), RIGHTS)
def test_a_user_of_minio_may_do_what_it_must(
    script: Any, user: str, action: str, bucket: str, is_allowed: bool
) -> None:
    assert _allowed(script("provision_store")["policies"](BUCKETS)[user], action, bucket) == is_allowed


@pytest.mark.parametrize(("user", "action", "bucket", "is_allowed"), RIGHTS)
def test_a_user_of_seaweedfs_may_do_the_same(
    script: Any, user: str, action: str, bucket: str, is_allowed: bool
) -> None:
    verb = {"s3:PutObject": "Write", "s3:DeleteObject": "Write", "s3:GetObject": "Read", "s3:ListBucket": "List"}[
        action
    ]
    users = {one["name"]: one for one in script("identities")["identities"](ENVIRONMENT)["identities"]}

    assert (f"{verb}:{bucket}" in users[user]["actions"]) == is_allowed
    assert users[user]["credentials"] == [{"accessKey": f"{user}-_id", "secretKey": f"{user}-key"}]


def test_a_user_without_keys_is_left_out(script: Any) -> None:
    environment = {key: value for key, value in ENVIRONMENT.items() if not key.startswith("MLFLOW_")}

    names = [one["name"] for one in script("identities")["identities"](environment)["identities"]]

    assert names == ["root", "pipeline", "serving"]


@pytest.mark.parametrize(
    ("days", "uploads", "rules"),
    [(7, 3, ["temporary", "unfinished-uploads"]), (7, 0, ["temporary"]), (0, 3, ["unfinished-uploads"]), (0, 0, None)],
)
def test_lifecycle_rules_are_those_asked_for(script: Any, days: int, uploads: int, rules: list[str] | None) -> None:
    config = script("provision_store")["lifecycle"](expire_temporary_days=days, abort_uploads_days=uploads)

    assert (config and [rule.rule_id for rule in config.rules]) == rules


_REFUSAL = "<Error><Code>{}</Code><Message>no</Message></Error>"


class _Store:
    """An S3 that has all buckets, takes the keys it is told to, and may refuse lifecycles; keeps their rules."""

    def __init__(self, *, server: str, refuses_keys: bool, refuses_rules: bool) -> None:
        self.rules: list[str] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def version_string(self) -> str:
                return server

            def answer(self, code: int, text: str) -> None:
                self.send_response(code)
                self.send_header("content-length", str(len(text)))
                self.send_header("content-type", "application/xml")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text.encode())

            def do_GET(self) -> None:
                if refuses_keys:
                    self.answer(403, _REFUSAL.format("InvalidAccessKeyId"))
                else:
                    self.answer(200, "<ListAllMyBucketsResult><Buckets></Buckets></ListAllMyBucketsResult>")

            def do_HEAD(self) -> None:
                self.answer(200, "")

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                if refuses_rules:
                    self.answer(400, _REFUSAL.format("InvalidArgument"))
                else:
                    store.rules = re.findall("<ID>(.*?)</ID>", body)
                    self.answer(200, "")

            def log_message(self, *_: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)

    def provision(self, script: Any) -> list[str]:
        thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        keys = {"AWS_ACCESS_KEY_ID": "root", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        days = {"EXPIRE_TEMPORARY_DAYS": "7", "ABORT_UPLOADS_DAYS": "7", "BUCKET_RUNS": "vy-runs"}
        address = f"http://127.0.0.1:{self.http.server_port}"
        try:
            done: list[str] = script("provision_store")["provision"](
                {"STORE_KIND": "external", "AWS_ENDPOINT_URL": address, **ENVIRONMENT, **keys, **days}
            )
        finally:
            self.http.shutdown()
            thread.join()
            self.http.server_close()
        return done


@pytest.mark.parametrize(
    ("server", "rules"), [("MinIO", ["temporary"]), ("another", ["temporary", "unfinished-uploads"])]
)
def test_an_external_store_gets_the_rules_that_it_takes(script: Any, server: str, rules: list[str]) -> None:
    store = _Store(server=server, refuses_keys=False, refuses_rules=False)

    assert store.provision(script) == [
        *("bucket vy-runs", "bucket vy-models", "bucket vy-mlflow"),
        "lifecycle of vy-runs",
    ]
    assert store.rules == rules


@pytest.mark.parametrize(
    ("keys", "rules", "message"),
    [
        pytest.param(True, False, "keys of store.existingSecrets.root.*InvalidAccessKeyId", id="wrong keys"),
        pytest.param(False, True, "vy-runs: .*unfinished-uploads.*InvalidArgument.*Days=0", id="unknown rule"),
    ],
)
def test_an_external_store_that_refuses_is_told_at_once(script: Any, keys: bool, rules: bool, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        _Store(server="another", refuses_keys=keys, refuses_rules=rules).provision(script)


def test_the_check_of_the_server_sends_a_picture(script: Any) -> None:
    picture = Image.open(io.BytesIO(script("check_server")["picture"](64, 48)))

    assert picture.size == (64, 48)
    assert picture.convert("RGB").getpixel((10, 10)) == (128, 128, 128)


class _Kfp:
    """Keeps pipelines and versions as KFP's API does: by namespace, and versions in pages of one."""

    def __init__(self) -> None:
        self.versions: dict[str, list[str]] = {}

    def list_pipelines(self, *, namespace: str | None, **query: str) -> Any:
        (predicate,) = json.loads(query["filter"])["predicates"]
        assert (predicate["operation"], predicate["key"]) == ("EQUALS", "display_name")
        pipeline_id = f"{namespace or ''}/{predicate['stringValue']}"
        known = [SimpleNamespace(pipeline_id=pipeline_id)] if pipeline_id in self.versions else None
        return SimpleNamespace(pipelines=known)

    def upload_pipeline(self, package: str, *, pipeline_name: str, namespace: str | None) -> Any:
        pipeline_id = f"{namespace or ''}/{pipeline_name}"
        assert pipeline_id not in self.versions
        self.versions[pipeline_id] = [pipeline_name]
        return SimpleNamespace(pipeline_id=pipeline_id)

    def list_pipeline_versions(self, pipeline_id: str, *, page_size: int, page_token: str) -> Any:
        at = int(page_token or 0)
        names = self.versions[pipeline_id]
        found = [SimpleNamespace(display_name=name) for name in names[at : at + 1]]
        return SimpleNamespace(pipeline_versions=found, next_page_token=str(at + 1) if at + 1 < len(names) else "")

    def upload_pipeline_version(self, package: str, *, pipeline_version_name: str, pipeline_id: str) -> None:
        self.versions[pipeline_id].append(pipeline_version_name)


@pytest.mark.parametrize("namespace", [None, "team-a"], ids=["single-user", "multi-user"])
def test_a_version_is_uploaded_once(script: Any, namespace: str | None) -> None:
    upload, kfp = script("upload_pipelines")["upload"], _Kfp()

    def again(version: str) -> str:
        return str(upload(kfp, "train_model", "p.yaml", version, namespace))

    kfp.versions["others/train_model"] = ["train_model", "0.1.0-cpu"]
    assert again("0.1.0-cpu") == "train_model: version 0.1.0-cpu uploaded"
    assert again("0.1.0-cpu") == "train_model: version 0.1.0-cpu is there"
    assert again("0.2.0-cpu") == "train_model: version 0.2.0-cpu uploaded"
    assert kfp.versions[f"{namespace or ''}/train_model"] == ["train_model", "0.1.0-cpu", "0.2.0-cpu"]


@pytest.mark.filterwarnings("ignore:This client only works:FutureWarning")
@pytest.mark.parametrize("token", ["", "from-file"], ids=["single-user", "multi-user"])
def test_the_upload_signs_in_as_the_account_where_its_token_is_mounted(
    token: str, script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said.append(self.headers.get("authorization"))
            answer = b'{"multi_user": false}'
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KF_PIPELINES_SA_TOKEN_PATH", raising=False)
    if token:
        (tmp_path / "token").write_text(token)
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            script("upload_pipelines")["connect"]().get_kfp_healthz()
        finally:
            server.shutdown()
            thread.join()

    assert set(said) == {f"Bearer {token}" if token else None}


@pytest.mark.filterwarnings("ignore:This client only works:FutureWarning")
def test_the_upload_names_an_address_where_nothing_answers(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("KF_PIPELINES_SA_TOKEN_PATH", raising=False)
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)
        with pytest.raises(SystemExit, match=f"kfp.endpoint = {address}: .* does not answer"):
            script("upload_pipelines")["connect"]()
