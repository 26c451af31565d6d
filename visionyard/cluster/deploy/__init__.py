"""Serving a bundle somewhere: one verb and four targets, see docs/deploying.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionyard import events
from visionyard.cluster.deploy.target import Deployed, ServiceStatus, Target
from visionyard.config import DeploymentConfig, parse_deployment_config
from visionyard.errors import ConfigError

__all__ = ["Deployed", "ServiceStatus", "Target", "deploy_verdict", "open_target"]


def open_target(config: DeploymentConfig) -> Target:
    """Return the target that a config names; connects to it.

    Args:
        config: Its `name` is the service's.

    Raises:
        ConfigError: There is no target or no name, or an option is not one of the target's.
        DeployError: The target cannot be reached.
    """
    if config.target == "none":
        raise ConfigError("deployment.target is none; expected kserve, kubernetes, runpod or huggingface")
    if not config.name:
        raise ConfigError("deployment.name is empty; give the service's name")
    if config.target == "kserve":
        from visionyard.cluster.deploy.kserve import KServeTarget

        return KServeTarget(config)
    if config.target == "kubernetes":
        from visionyard.cluster.deploy.plain import PlainTarget

        return PlainTarget(config)
    if config.target == "runpod":
        from visionyard.cluster.deploy.runpod import RunPodTarget

        return RunPodTarget(config)
    from visionyard.cluster.deploy.huggingface import HuggingFaceTarget

    return HuggingFaceTarget(config)


def deploy_verdict(bundle: Path, verdict: str, settings: Mapping[str, Any]) -> str:
    """Deploy a bundle if the verdict on it is `promote` and there is a target.

    Args:
        bundle: Its folder.
        verdict: `promote` or `reject`.
        settings: Of `DeploymentConfig`.

    Returns:
        Where it answers; empty when nothing was deployed, which an event explains.

    Raises:
        ConfigError: A setting is wrong, or the verdict is no verdict.
        DeployError: It does not come to serve.
        StorageError: The bundle cannot be put into the store.
    """
    if verdict not in ("promote", "reject"):
        raise ConfigError(f"verdict {verdict!r}: expected promote or reject")
    config = parse_deployment_config(settings)
    if config.target == "none":
        events.figures(deployed="nothing: no deployment.target")
        return ""
    if verdict == "reject":
        events.figures(deployed="nothing: the verdict is to reject")
        return ""
    deployed = open_target(config).deploy(bundle)
    events.figures(deployed=deployed.outcome, digest=deployed.digest[:12], url=deployed.url)
    for reason in deployed.reasons:
        events.warn(reason)
    return deployed.url
