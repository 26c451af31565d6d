"""`visionyard deploy|rollback|status`: what reaches the target, and what is printed."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from visionyard.cli.app import app
from visionyard.cli.deploy import read_settings
from visionyard.cluster import deploy
from visionyard.cluster.deploy import Deployed, ServiceStatus
from visionyard.config import DeploymentConfig
from visionyard.errors import ConfigError

DIGEST = "ab" * 32


class FakeTarget:
    """Remembers its settings and does nothing."""

    outcome: Any = "deployed"

    def __init__(self, config: DeploymentConfig) -> None:
        type(self).config = config  # type: ignore[attr-defined]

    def deploy(self, bundle: Path) -> Deployed:
        return Deployed(self.outcome, "http://digits", DIGEST, ("errors: canary 9 %",))

    def rollback(self) -> Deployed:
        return Deployed("rolled back", "http://digits", DIGEST)

    def status(self) -> ServiceStatus:
        return ServiceStatus("digits", "http://digits", DIGEST, "UpToDate", 2, "", ("cd" * 32,), ("pod x: waits",))


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> type[FakeTarget]:
    monkeypatch.setattr(deploy, "open_target", FakeTarget)
    return FakeTarget


def test_a_bundle_is_deployed_as_the_run_config_says(target: Any, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "name: digits\ndata: {source: s3://clips}\n"
        "deployment: {target: kserve, store_uri: s3://models, min_replicas: 2, max_replicas: 8}\n"
    )
    command = ["deploy", "bundle", "--config", str(config), "--set", "deployment.max_replicas=4", "-n", "vision"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "digits: deployed, digest abababababab",
        "  errors: canary 9 %",
        "http://digits",
    ]
    read = target.config
    assert (read.name, read.namespace, read.min_replicas, read.max_replicas) == ("digits", "vision", 2, 4)


def test_a_canary_that_was_rolled_back_is_a_failure(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "outcome", "rolled back")
    command = ["deploy", "bundle", "--name", "digits", "--target", "kserve", "--set", "deployment.store_uri=s3://m"]
    assert CliRunner().invoke(app, command).exit_code == 1


def test_going_back_and_looking_need_no_store(target: Any) -> None:
    for command in ("rollback", "status"):
        done = CliRunner().invoke(app, [command, "digits", "--target", "kserve"])
        assert done.exit_code == 0, done.output
    assert "before    cdcdcdcdcdcd" in done.stdout
    assert "problem   pod x: waits" in done.stdout
    assert "canary" not in done.stdout


@pytest.mark.parametrize(
    ("settings", "target", "match"),
    [
        pytest.param([], "", "no target: name one with --target", id="no target"),
        pytest.param(["max_replicas=4"], "kserve", r"--set max_replicas=4: expected deployment\.key", id="no section"),
        pytest.param(["deployment.cpu=much"], "kserve", r"deployment\.cpu", id="wrong value"),
        pytest.param([], "kserve", "store_uri is empty", id="no store"),
        pytest.param(
            ["deployment.store_uri=s3://m", "deployment.min_replicas=0"],
            "kserve",
            "only Knative mode, RunPod and Hugging Face scale to zero",
            id="to zero without Knative",
        ),
        pytest.param(
            ["deployment.store_uri=s3://m", "deployment.canary_percent=10"],
            "kubernetes",
            "only the target kserve has canaries",
            id="canary without KServe",
        ),
        pytest.param(
            ["deployment.store_uri=s3://m", "deployment.scale_metric=rps"],
            "kserve",
            "only in Knative mode",
            id="requests a second without Knative",
        ),
        pytest.param(
            ["deployment.store_uri=s3://m", "deployment.min_replicas=3"],
            "kserve",
            "min_replicas 3 is above max_replicas 1",
            id="more than most",
        ),
    ],
)
def test_what_does_not_fit_is_said_at_once(settings: list[str], target: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        read_settings(None, settings, name="digits", target=target, namespace="")
