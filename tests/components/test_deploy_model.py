"""The stage deploy_model: what it does with a verdict, and that it costs nothing where nothing is deployed."""

from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from visionyard.cluster import deploy
from visionyard.cluster.deploy import Deployed
from visionyard.components.deploy_model import deploy_model
from visionyard.config import DeploymentConfig
from visionyard.events import EVENTS_VARIABLE, read_events


class FakeTarget:
    """Says that it deployed."""

    def __init__(self, config: DeploymentConfig) -> None:
        self.name = config.name

    def deploy(self, bundle: Path) -> Deployed:
        return Deployed("promoted", f"http://{self.name}", "ab" * 32, ("because",))


def run(tmp_path: Path, **settings: Any) -> tuple[str, list[dict[str, Any]]]:
    """Run the stage; return its URL and its events."""
    (url,) = deploy_model.python_func(
        bundle=dsl.Model(uri=str(tmp_path / "bundle")), **{"verdict": "promote", **settings}
    )
    return url, read_events(tmp_path / "events.jsonl")


@pytest.fixture(autouse=True)
def _events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
    monkeypatch.setattr(deploy, "open_target", FakeTarget)


KSERVE = {"target": "kserve", "store_uri": "s3://models"}


@pytest.mark.parametrize(
    ("settings", "url", "told"),
    [
        pytest.param({}, "", "nothing: no deployment.target", id="no target"),
        pytest.param({**KSERVE, "verdict": "reject"}, "", "nothing: the verdict is to reject", id="rejected"),
        pytest.param({**KSERVE, "run_name": "digits"}, "http://digits", "promoted", id="named after the run"),
        pytest.param({**KSERVE, "name": "numbers", "run_name": "digits"}, "http://numbers", "promoted", id="named"),
    ],
)
def test_what_is_deployed(settings: dict[str, Any], url: str, told: str, tmp_path: Path) -> None:
    found, events = run(tmp_path, **settings)
    assert found == url
    assert events[-1]["figures"]["deployed"] == told


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"verdict": "maybe"}, id="no verdict"),
        pytest.param({"target": "kserve"}, id="no store"),
        pytest.param({**KSERVE, "canary_percent": 80}, id="most of the traffic"),
    ],
)
def test_wrong_settings_end_the_stage(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, **settings)
    assert '"bad_config"' in (tmp_path / "deploy_model.exit.json").read_text()
