"""Look for mistakes that reading the config alone does not show: missing files, unknown models, absent devices."""

from importlib.util import find_spec
from pathlib import Path

from visionyard.cli.check_tables import table_problems
from visionyard.config import RunConfig
from visionyard.errors import ConfigError, VisionyardError


def find_problems(config: RunConfig) -> list[str]:
    """Return everything that would make the run fail, as far as can be told without running it."""
    problems = _check_source(config.data.source) + _check_weights(config)
    problems += _check_split_file(config.data.split_file) + _check_anonymize(config) + table_problems(config)
    for check in (_check_plan, _check_device, _check_formats):
        try:
            check(config)
        except ConfigError as error:
            problems += error.problems
    return problems


def _check_source(source: str) -> list[str]:
    if "://" in source and not source.startswith("file://"):
        scheme = source.partition("://")[0]
        known = {"s3", "http", "https"}
        return (
            []
            if scheme in known
            else [f"data.source = {source!r}: unknown scheme; expected a path, s3:// or http(s)://"]
        )
    path = Path(source.removeprefix("file://")).expanduser()
    if not path.exists():
        return [f"data.source = {source!r}: no such file or folder (looked at {path.absolute()})"]
    if path.is_dir() and not any(path.iterdir()):
        return [f"data.source = {source!r}: the folder is empty; put clips or labelled images there"]
    return []


def _check_weights(config: RunConfig) -> list[str]:
    from visionyard.models import get_plugin, plugin_names

    weights = config.model.weights
    if not weights or "://" in weights or config.model.name not in plugin_names():
        return []
    if get_plugin(config.model.name).check_weights_name(weights) or Path(weights).expanduser().is_file():
        return []
    return [
        f"model.weights = {weights!r}: no such file; nothing is downloaded by name: give a path or an s3:// address"
    ]


def _check_split_file(address: str) -> list[str]:
    from visionyard.data.given_splits import read_given_splits
    from visionyard.storage import is_local

    try:
        if address and is_local(address):
            read_given_splits(address)
    except VisionyardError as error:
        return [str(error)]
    return []


def _check_anonymize(config: RunConfig) -> list[str]:
    from visionyard.anonymization import input_addresses, open_anonymizing
    from visionyard.storage import is_local

    anonymize = config.frames.anonymize
    try:
        if all(is_local(address) for address in input_addresses(anonymize)):
            with open_anonymizing(anonymize):
                pass
    except VisionyardError as error:
        return [str(error)]
    return []


def _check_plan(config: RunConfig) -> None:
    from visionyard.training.plan import make_plan

    # What other kinds train is in their labels, which are not read here.
    make_plan(
        config.model,
        config.training,
        task="semantic_segmentation" if config.data.kind == "images_semantic_masks" else None,
        classes=config.data.classes or ["a", "b"],
    )


def _check_device(config: RunConfig) -> None:
    # Only a named device is looked for: torch takes two seconds to import.
    if config.training.device not in {"auto", "cpu"}:
        from visionyard.training.plan import choose_device

        choose_device(config.training.device)


def _check_formats(config: RunConfig) -> None:
    # The export would only tell after the training.
    if "openvino" in config.export.formats and find_spec("openvino") is None:
        raise ConfigError(
            "export.formats holds 'openvino', which is not installed; pip install 'visionyard[openvino]', or leave "
            "it out"
        )
