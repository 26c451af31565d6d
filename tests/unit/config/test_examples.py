"""The ready configs: they load, and say how they are run."""

from pathlib import Path

import pytest

from visionyard.config import load_run_config
from visionyard.models import get_plugin

EXAMPLES = Path(__file__).parents[3] / "examples"
CONFIGS = sorted(EXAMPLES.rglob("*.yaml"))


def test_there_are_some() -> None:
    assert len(CONFIGS) >= 2


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_ready_config_loads_and_its_options_fit_its_model(path: Path) -> None:
    config = load_run_config(path, environment={})
    get_plugin(config.model.name).parse_options(config.model.options)
    assert config.name == path.stem.replace("_", "-")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_opens_with_the_command_and_an_override_that_works(path: Path) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#   ")]
    place = path.relative_to(EXAMPLES.parent).as_posix()
    assert f"#   visionyard run {place}" in head
    (override,) = [line.split("--set ")[1] for line in head if "--set" in line]
    assert load_run_config(path, overrides=(override,), environment={}) != load_run_config(path, environment={})
