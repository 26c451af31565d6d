"""What later stages left in their folders, as far as the page shows it."""

import json
from pathlib import Path
from typing import Any

from visionyard.errors import ArtifactError

_TRAINING = "training.json"
_BUNDLE = "model.json"
_PARITY = "parity.json"
_BENCHMARK = "benchmark.json"
_VERDICT = "verdict.json"
_KNOWN_VERSION = 1
_PLAN_FACTS = ("model_name", "preset", "image_size_px", "batch_size", "learning_rate", "epochs", "weights", "seed")


def read_training(folder: Path) -> dict[str, Any]:
    """Return the settings of a training and which epoch was the best.

    Raises:
        ArtifactError: The folder is incomplete or of an unknown version.
    """
    values = _read(folder / _TRAINING, "train")
    plan = {name: values["plan"][name] for name in _PLAN_FACTS if values["plan"].get(name) not in {None, ""}}
    if not plan.get("image_size_px"):  # of a model of tables
        plan.pop("image_size_px", None)
    return {**plan, "device": values["device"], "best_epoch": values["best_epoch"]}


def read_bundle(folder: Path) -> dict[str, str]:
    """Return the digests that a model bundle names.

    Raises:
        ArtifactError: The folder is incomplete or of an unknown version.
    """
    values = _read(folder / _BUNDLE, "export")
    digests = {name: value for name, value in values.items() if name.endswith("_digest")}
    files = {f"sha256 of {form['file']}": form["sha256"] for form in values["formats"].values()}
    return {"bundle": values["name"], **digests, **files, "licence": values["licence"]}


def read_parity(folder: Path) -> dict[str, Any]:
    """Return the parity certificate of a model bundle.

    Raises:
        ArtifactError: The folder is incomplete or of an unknown version.
    """
    return _read(folder / _PARITY, "export")


def read_benchmark(folder: Path) -> dict[str, Any]:
    """Return the measurements of a benchmark.

    Raises:
        ArtifactError: The folder is incomplete or of an unknown version.
    """
    return _read(folder / _BENCHMARK, "benchmark")


def read_verdict(folder: Path) -> dict[str, Any]:
    """Return the verdict of a promotion.

    Raises:
        ArtifactError: The folder is incomplete or of an unknown version.
    """
    return _read(folder / _VERDICT, "promote")


def _read(path: Path, stage: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing; run the stage {stage} again, or leave its folder out") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not valid JSON ({error}); run the stage {stage} again") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != _KNOWN_VERSION:
        raise ArtifactError(
            f"{path}: schema_version {version!r} is not known, expected {_KNOWN_VERSION}; run the stage {stage} again "
            "with this Visionyard"
        )
    return dict(values)
