"""Keep Ultralytics offline and silent: no download, no telemetry, no pip install, the user's settings untouched.

Its switches are read while it is imported, so everything here must run before; `load_ultralytics` is the only door.
"""

import logging
import os
import shutil
import tempfile
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from visionyard.errors import ConfigError
from visionyard.stage_resources import core_count


@cache
def load_ultralytics(module: str = "ultralytics") -> Any:
    """Import a module of Ultralytics with everything that reaches outside switched off.

    Args:
        module: Dotted name, such as `ultralytics.models.yolo.detect`.

    Raises:
        ConfigError: Ultralytics is not installed.
    """
    if find_spec("ultralytics") is None:
        raise ConfigError(
            "model.name: the yolo plugins need Ultralytics (AGPL-3.0), which is not installed; "
            "install visionyard[yolo], or choose torchvision-classification"
        )
    _prepare_environment()
    loaded = import_module(module)
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    settings = import_module("ultralytics.utils").SETTINGS
    # Not through SETTINGS.update: that writes its file. Loggers such as MLflow's are on when their package is there.
    for name in ("sync", "mlflow", "comet", "clearml", "dvc", "neptune", "raytune", "tensorboard", "wandb", "hub"):
        dict.__setitem__(settings, name, False)
    return loaded


@cache
def _prepare_environment() -> None:
    folder = Path(tempfile.mkdtemp(prefix="visionyard-ultralytics-"))
    settings = folder / "Ultralytics"
    settings.mkdir()
    _provide_font(settings / "Arial.ttf")
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_VERBOSE"] = "false"
    # Ultralytics sets it to 1 when absent, which halves the speed of training on two cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(core_count()))
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _provide_font(target: Path) -> None:
    """Put a font where Ultralytics looks for Arial.ttf, or it asks the network for it at each dataset check."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return
    font = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    if font.exists():
        shutil.copyfile(font, target)
