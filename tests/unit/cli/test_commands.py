"""The commands as a user types them: what they print, where, and their exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HEAVY = ("torch", "kfp", "mlflow", "av", "cv2", "numpy", "pyarrow", "ultralytics", "onnxruntime", "pydantic")


def _visionyard(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "visionyard", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def _write(path: Path, **sections: object) -> Path:
    path.write_text(yaml.safe_dump(sections))
    return path


def test_help_imports_nothing_heavy(tmp_path: Path):
    program = (
        "import sys; sys.argv = ['visionyard', '--help']\n"
        "from visionyard.cli import main\n"
        "try: main()\n"
        f"finally: sys.stderr.write(','.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0
    assert "predict" in done.stdout
    assert done.stderr == ""


def test_version(tmp_path: Path):
    assert _visionyard("--version", cwd=tmp_path).stdout.strip() == "0.1.0"


def test_init_writes_a_config_that_check_understands(tmp_path: Path):
    assert _visionyard("init", cwd=tmp_path).returncode == 0
    done = _visionyard("check", "run.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "data.source = 'data': no such file or folder" in done.stderr
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.txt").write_text("a")
    assert _visionyard("check", "run.yaml", cwd=tmp_path).returncode == 0
    again = _visionyard("init", cwd=tmp_path)
    assert again.returncode == 2
    assert "run.yaml" in again.stderr


def test_check_tells_all_mistakes_at_once(tmp_path: Path):
    config = _write(
        tmp_path / "run.yaml",
        data={"source": "nowhere"},
        model={"name": "yolo-detection", "preset": "yolo99", "weights": "gone.pt", "options": {"mosaik": 1}},
        training={"device": "cuda:9"},
    )
    done = _visionyard("check", str(config), cwd=tmp_path)
    assert done.returncode == 2
    for part in ("'nowhere'", "'gone.pt'", "model.options.mosaik", "'yolo99'", "'cuda:9'"):
        assert part in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "gone.yaml"], "gone.yaml: no such file"),
        (
            ["run", "run.yaml", "--set", "training.epoch=3"],
            "training.epoch: unknown key; did you mean training.epochs?",
        ),
        (["run", "run.yaml", "--set", "training.epochs=x"], "training.epochs = 'x'"),
        (["compile", "nope", "-o", "p.yaml"], "nope: no such pipeline"),
        (["models", "show", "nope"], "'nope': no such plugin"),
        (["report"], "no such run"),
        (["predict", "bundle", "gone.jpg"], "gone.jpg: no such file"),
        (["predict", "bundle", "run.yaml", "--confidence", "2"], "--confidence 2"),
        (["benchmark", "bundle"], "no dataset version"),
        (["fly"], "No such command"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_wrong_use_exits_with_2_and_says_why(arguments: list[str], part: str, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.txt").write_text("a")
    _write(tmp_path / "run.yaml", data={"source": "data"})
    done = _visionyard(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert part in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_models_lists_and_shows(tmp_path: Path):
    listed = _visionyard("models", cwd=tmp_path).stdout
    assert "yolo-detection" in listed
    assert "torchvision-classification" in listed
    shown = _visionyard("models", "show", "torchvision-classification", cwd=tmp_path).stdout
    assert "mobilenet_v3_small" in shown
    assert "label_smoothing" in shown


def test_made_pages_are_current():
    from visionyard.cli.docs import write_pages

    assert write_pages(Path(__file__).parents[3], is_check=True) == []
