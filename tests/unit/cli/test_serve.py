import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from visionyard.cli.serve import make_config
from visionyard.config.serving_config import ServingConfig
from visionyard.errors import ConfigError


def config_of(*bundles: str, names: tuple[str, ...] = (), **values: object) -> ServingConfig:
    given: dict[str, object] = {"path": None, "settings": [], "host": None, "http_port": None, "grpc_port": None}
    return make_config(bundles, names, **{**given, **values})  # type: ignore[arg-type]


def run(*arguments: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "visionyard", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "COLUMNS": "300"},
    )


def test_bundles_are_served_beside_those_of_the_config(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    path = tmp_path / "serving.yaml"
    path.write_text(f"models: [{{path: {tmp_path}/c, name: third}}]\nserver: {{http_port: 1234}}\n")

    found = config_of(f"{tmp_path}/a", f"{tmp_path}/b", names=("first",), path=path, host="0.0.0.0", grpc_port=-1)

    assert [(Path(each.path).name, each.name) for each in found.models] == [("a", "first"), ("b", ""), ("c", "third")]
    assert (found.server.host, found.server.http_port, found.server.grpc_port) == ("0.0.0.0", 1234, -1)


def test_the_command_line_wins_over_set_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "serving.yaml"
    path.write_text("server: {http_port: 1, grpc_port: 2}\nlimits: {max_images: 3}\n")

    found = config_of(str(tmp_path), path=path, settings=["server.grpc_port=20", "server.http_port=10"], http_port=100)

    assert (found.server.http_port, found.server.grpc_port, found.limits.max_images) == (100, 20, 3)


@pytest.mark.parametrize(
    ("bundles", "names", "values", "words"),
    [
        pytest.param((), (), {}, "no model to serve", id="nothing"),
        pytest.param(("nope",), (), {}, "nope: no such folder", id="missing"),
        pytest.param((".",), ("a", "b"), {}, "2 names for 1", id="too-many-names"),
        pytest.param((".",), ("a/b",), {}, "a/b", id="name-with-slash"),
        pytest.param((".",), (), {"http_port": 70000}, "70000", id="port"),
        pytest.param((".",), (), {"settings": ["server.prot=1"]}, "server.prot: unknown key", id="unknown-key"),
    ],
)
def test_mistakes_are_told(
    bundles: tuple[str, ...], names: tuple[str, ...], values: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        config_of(*bundles, names=names, **values)


def test_an_address_is_not_looked_for_on_disk() -> None:
    assert config_of("s3://bucket/bundle").models[0].path == "s3://bucket/bundle"


def test_help_does_not_import_the_server() -> None:
    code = (
        "import sys\nfrom visionyard.cli.app import app\n"
        "try:\n    app(['serve', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('fastapi', 'grpc', 'numpy', 'onnxruntime', 'structlog') if n in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.rstrip().endswith("[]")
    assert "--http-port" in done.stdout


def test_a_port_in_use_is_told(tiny_bundle: Callable[[str], tuple[Path, Path]]) -> None:
    bundle = str(tiny_bundle("classification")[0])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        rest = run(bundle, "--http-port", port, "--grpc-port", "-1")
        grpc = run(bundle, "--http-port", "0", "--grpc-port", port)

    assert (rest.returncode, grpc.returncode) == (2, 2)
    assert f"server.http_port = {port}" in rest.stderr
    assert f"server.grpc_port = {port}" in grpc.stderr
    assert "Traceback" not in rest.stderr + grpc.stderr


def test_an_altered_bundle_is_refused(tiny_bundle: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    source = tiny_bundle("classification")[0]
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in source.iterdir():
        (bundle / file.name).write_bytes(file.read_bytes() + (b"x" if file.suffix == ".onnx" else b""))

    done = run(str(bundle), "--http-port", "0", "--grpc-port", "0")

    assert done.returncode == 1
    assert "model.onnx" in done.stderr
    assert "Traceback" not in done.stderr


def test_kserve_s_own_arguments_are_taken(tiny_bundle: Callable[[str], tuple[Path, Path]]) -> None:
    bundle = tiny_bundle("classification")[0]
    arguments = ["--model_name=mine", f"--model_dir={bundle}", "--http_port=0", "--grpc_port=-1"]
    with subprocess.Popen(
        [sys.executable, "-m", "visionyard", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "COLUMNS": "300"},
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

    assert lines[0].startswith("listening on http://127.0.0.1:")
    assert "gRPC" not in lines[0]
    assert lines[1].startswith("mine: ")
    assert lines[2].startswith("ready")
    assert sum("curl" in line for line in lines[3:]) == 3
