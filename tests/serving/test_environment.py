"""The locked environment of the serving image is enough for the server, and small."""

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
# What a training or a cluster needs and a server does not.
ABSENT = ("torch", "mlflow", "kfp", "ultralytics", "kubernetes", "pandas", "pyarrow", "av")
MOST_MB = 400


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site-packages of an environment made from requirements/serve.txt."""
    if not UV.exists():
        pytest.skip("needs uv beside the interpreter; `make install` puts it there")
    folder = tmp_path_factory.mktemp("serve") / "venv"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", folder / "bin/python", "--no-deps", "--require-hashes"]
    subprocess.run([*install, "-r", ROOT / "requirements/serve.txt"], check=True)
    return next(folder.glob("lib/python*/site-packages"))


@pytest.mark.slow
def test_packages_stay_small_and_without_training_libraries(environment: Path) -> None:
    byte_count = sum(path.lstat().st_size for path in environment.rglob("*") if path.is_file())
    assert byte_count / 1e6 < MOST_MB
    assert not [name for name in ABSENT if (environment / name).exists()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["boxes", "kinds"])
def test_the_environment_serves_a_bundle(
    environment: Path, name: str, bundle_paths: dict[str, Path], tmp_path: Path
) -> None:
    python = environment.parents[2] / "bin/python"
    command = [python, "-m", "visionyard", "serve", bundle_paths[name], "--http-port", "0", "--grpc-port", "0"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VISIONYARD"))}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("ready"):
                break
        listening = re.search(r"listening on (\S+?),", "".join(lines))
        assert listening, (tmp_path / "log").read_text()
        picture = io.BytesIO()
        Image.new("RGB", (96, 80), (120, 120, 120)).save(picture, "JPEG")
        answer = httpx.post(
            f"{listening[1]}/predict",
            content=picture.getvalue(),
            headers={"Content-Type": "image/jpeg"},
            timeout=20,
        )
        assert answer.status_code == 200
        assert len(answer.json()["predictions"]) == 1
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()
