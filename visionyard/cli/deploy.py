"""`visionyard deploy`, `rollback` and `status`: bundles on KServe, Kubernetes, RunPod and Hugging Face."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from visionyard.errors import ConfigError

if TYPE_CHECKING:
    from visionyard.cluster.deploy import Deployed
    from visionyard.config import DeploymentConfig

output = Console(highlight=False)

_UNREAD_STORE = "deployment.store_uri=s3://unread"

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A run config, whose section deployment says where and how.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="DEPLOYMENT.KEY=VALUE", help="Override a value; may be repeated."),
]
TargetOption = Annotated[str, typer.Option("--target", help="kserve, kubernetes, runpod or huggingface.")]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Kubernetes namespace.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(name="deploy")(deploy_command)
    app.command(name="rollback")(rollback_command)
    app.command(name="status")(status_command)


def deploy_command(
    bundle: Annotated[Path, typer.Argument(help="A model bundle's folder.")],
    name: Annotated[str, typer.Option(help="Name of the service; empty: the config's, or the run's.")] = "",
    config: ConfigOption = None,
    settings: SetOption = None,
    target: TargetOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Serve a bundle: on KServe with a canary, as a plain Deployment, on RunPod or Hugging Face."""
    from visionyard.cluster.deploy import open_target

    read = read_settings(config, settings or [], name=name, target=target, namespace=namespace)
    done = open_target(read).deploy(bundle)
    _show(read.name, done)
    if done.outcome == "rolled back":
        raise typer.Exit(1)


def rollback_command(
    name: Annotated[str, typer.Argument(help="Name of the service.")],
    config: ConfigOption = None,
    settings: SetOption = None,
    target: TargetOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Serve the bundle before the present one again; a canary in progress is ended."""
    from visionyard.cluster.deploy import open_target

    read = read_settings(config, settings or [], name=name, target=target, namespace=namespace, reads_store=False)
    done = open_target(read).rollback()
    _show(read.name, done)


def status_command(
    name: Annotated[str, typer.Argument(help="Name of the service.")],
    config: ConfigOption = None,
    settings: SetOption = None,
    target: TargetOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Show what a service serves, where, with how many pods, and what stands in its way."""
    from visionyard.cluster.deploy import open_target

    read = read_settings(config, settings or [], name=name, target=target, namespace=namespace, reads_store=False)
    found = open_target(read).status()
    lines = [
        ("service", found.name),
        ("url", found.url),
        ("digest", found.digest),
        ("state", found.state),
        ("replicas", "" if found.replicas is None else str(found.replicas)),
        ("canary", found.canary),
        ("before", ", ".join(digest[:12] for digest in found.previous)),
        *(("problem", problem) for problem in found.problems),
    ]
    for label, text in lines:
        if text:
            output.print(f"{label:<9} {text}", markup=False, soft_wrap=True)


def _show(name: str, done: "Deployed") -> None:
    output.print(f"{name}: {done.outcome}, digest {done.digest[:12]}", markup=False)
    for reason in done.reasons:
        output.print(f"  {reason}", markup=False, soft_wrap=True)
    if done.url:
        output.print(done.url, markup=False, soft_wrap=True)


def read_settings(
    config: Path | None, settings: list[str], *, name: str, target: str, namespace: str, reads_store: bool = True
) -> "DeploymentConfig":
    """Return the deployment's settings: those of a run config, with what the command line says over them.

    Args:
        config: The run config; None starts from the defaults.
        settings: `deployment.key=value` texts.
        name: Of the service; empty: the config's, or the run's.
        target: In place of the config's; empty: the config's.
        namespace: The same.
        reads_store: Whether deployment.store_uri must be given; a service on Kubernetes knows its bundles itself.

    Raises:
        ConfigError: A value is wrong, or no target is named.
    """
    from visionyard.config import load_run_config, parse_deployment_config

    foreign = [text for text in settings if not text.startswith("deployment.")]
    if foreign:
        raise ConfigError(f"--set {foreign[0]}: expected deployment.key=value, such as deployment.max_replicas=4")
    given = {"name": name, "target": target, "namespace": namespace}
    overrides = [*settings, *(f"deployment.{key}={value}" for key, value in given.items() if value)]
    if config is None:
        # A run config without data is none; here nothing is read from there.
        defaults = ["data.source=none", *([] if reads_store or target == "runpod" else [_UNREAD_STORE])]
        overrides = [*defaults, *overrides]
    read = load_run_config(config, overrides=overrides)
    values = read.deployment.model_dump()
    if read.deployment.target == "none":
        raise ConfigError("no target: name one with --target, or as deployment.target in the run config")
    return parse_deployment_config({**values, "name": values["name"] or read.name})
