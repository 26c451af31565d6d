"""What every target can do, and what it tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from visionyard.errors import ConfigError, DeployError

Outcome = Literal["deployed", "promoted", "rolled back"]


@dataclass(frozen=True)
class Deployed:
    """How a deployment or a rollback ended.

    Attributes:
        outcome: `deployed`; `promoted` after a canary; `rolled back` to what served before.
        url: Where the service answers; empty where the platform gives none.
        digest: Of the bundle that serves now.
        reasons: Why, one sentence each.
    """

    outcome: Outcome
    url: str
    digest: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServiceStatus:
    """What a service is doing.

    Attributes:
        name: Its name.
        url: Where it answers.
        digest: Of the bundle that is meant to serve.
        state: In the platform's words.
        replicas: Pods or workers that take requests; None where the platform does not tell.
        canary: Digest and share of the canary in words; empty when there is none.
        previous: Digests of the bundles before, newest first; the first is what a rollback brings back.
        problems: What stands in the way, one sentence each.
    """

    name: str
    url: str
    digest: str
    state: str
    replicas: int | None = None
    canary: str = ""
    previous: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Target(Protocol):
    """A place that serves bundles."""

    def deploy(self, bundle: Path) -> Deployed:
        """Serve a bundle from now on; what served before goes on until it does, and when it does not.

        Raises:
            ArtifactError: It is not a whole bundle.
            ConfigError: The bundle or a setting does not fit.
            StorageError: It cannot be put into the store.
            DeployError: Refused, or it does not come to serve; holds the reasons.
        """

    def rollback(self) -> Deployed:
        """Serve the bundle before the present one again; a canary in progress is ended in its place.

        Raises:
            DeployError: There is no such service or no bundle before, or it does not come to serve.
        """

    def status(self) -> ServiceStatus:
        """Return what the service is doing.

        Raises:
            DeployError: There is no such service.
        """


def read_options(given: Mapping[str, Any], known: Mapping[str, type], target: str) -> dict[str, Any]:
    """Return a target's own options, checked.

    Args:
        given: `deployment.options`.
        known: Name to type.
        target: For the message.

    Raises:
        ConfigError: One is unknown or of another type; lists all.
    """
    problems = [
        f"deployment.options.{name}: {target} has no such option; it has {', '.join(sorted(known))}"
        for name in given
        if name not in known
    ]
    problems += [
        f"deployment.options.{name} = {given[name]!r}: expected {kind.__name__}"
        for name, kind in known.items()
        if name in given and not isinstance(given[name], kind)
    ]
    if problems:
        raise ConfigError(problems)
    return dict(given)


def nothing_before(name: str) -> DeployError:
    """Return the error of a rollback of a service that has served one bundle only."""
    return DeployError(f"{name}: no bundle served before the present one; there is nothing to roll back to")
