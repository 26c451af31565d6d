"""`visionyard submit`: check, compile with a profile, send, and watch when asked to."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from visionyard.cli.check import find_problems
from visionyard.cli.compile import make_package
from visionyard.cli.inputs import DATA_DIGEST, input_digests, unknown_digests
from visionyard.cli.runs import watch
from visionyard.cluster.kfp_api import KfpApi, find_server
from visionyard.cluster.packages import Package
from visionyard.cluster.profiles import Profile, load_profile
from visionyard.cluster.submit import (
    find_unfit,
    find_unreachable,
    find_unreachable_parameters,
    read_parameters,
    run_parameters,
    submit_package,
)
from visionyard.config import RunConfig, to_parameters
from visionyard.digests import code_digest
from visionyard.errors import ConfigError, StorageError


@dataclass(frozen=True)
class Request:
    """What is to run beside the config.

    Attributes:
        pipeline: Which pipeline.
        profile: Name or path of the profile.
        store: Replaces the profile's; empty: the profile's own.
        experiment: Group of runs; empty: the config's name.
        is_fresh: Do not look at the source from here.
        parameters: `name=value` texts: the pipeline's parameters beyond the config's.
    """

    pipeline: str
    profile: str
    store: str
    experiment: str
    is_fresh: bool
    parameters: Sequence[str] = ()


def submit_command(
    config: RunConfig | None, request: Request, *, host: str, namespace: str, is_waiting: bool, console: Console
) -> int:
    """Submit a run and return the exit code.

    Args:
        config: What to run; None: the pipeline trains nothing, and all it takes are the request's parameters.
        request: How.
        host: Of the server; empty: from the environment.
        namespace: Of a multi-user Kubeflow.
        is_waiting: Watch the run until it ends.
        console: Where to print.

    Raises:
        ConfigError: Something would make the run fail; nothing was sent.
        VisionyardError: The server cannot be reached or refuses.
    """
    server = find_server(host, namespace)
    profile = load_chosen(request.profile, request.store)
    problems = _find_problems(config) + find_unfit(profile)
    if problems:
        raise ConfigError(problems)
    package = make_package(request.pipeline, profile, to_parameters(config) if config else {})
    if config is None and "data_source" in package.inputs:
        raise ConfigError(f"{request.pipeline}: what it trains stands in a run config; name one, such as run.yaml")
    given = read_parameters(request.parameters, package)
    if problems := find_unreachable_parameters(given):
        raise ConfigError(problems)
    digests: dict[str, str] = {}
    if config and request.is_fresh:
        package = package.without_cached_source(unknown_digests(config))
    elif config and "data_source" in package.inputs:
        digests = _digests(config, console)
    parameters = {**_parameters(config, package, profile, digests), **given}
    name = config.name if config else request.pipeline.replace("_", "-")
    run_id = submit_package(
        KfpApi(server),
        package,
        name=f"{name}-{time.strftime('%Y%m%d-%H%M%S')}",
        experiment=request.experiment or name,
        parameters=parameters,
        profile=profile,
        description=f"visionyard submit, profile {profile.name}",
    )
    console.print(f"submitted [bold]{run_id}[/bold] with profile {profile.name}", soft_wrap=True)
    console.print(f"{server.host}/#/runs/details/{run_id}", soft_wrap=True)
    if is_waiting:
        return watch(KfpApi(server), run_id, console=console)
    console.print(f"follow it: visionyard runs watch {run_id} --host {server.host}", soft_wrap=True)
    return 0


def _find_problems(config: RunConfig | None) -> list[str]:
    return [] if config is None else find_unreachable(config) or find_problems(_without_device(config))


def _without_device(config: RunConfig) -> RunConfig:
    """Return a config that names no device: those of this machine say nothing of a pod's."""
    return config.model_copy(update={"training": config.training.model_copy(update={"device": "auto"})})


def load_chosen(name: str, store: str) -> Profile:
    """Return a profile with the store that an option names.

    Raises:
        ConfigError: There is no such profile, it has mistakes, or the store is no s3:// address.
    """
    if store and not store.startswith("s3://"):
        raise ConfigError(f"--store {store}: expected s3://bucket/prefix, which pods can reach")
    return load_profile(name).with_store(store)


def _parameters(
    config: RunConfig | None, package: Package, profile: Profile, digests: dict[str, str]
) -> dict[str, Any]:
    if config is None:
        return {"software_digest": code_digest()} if "software_digest" in package.inputs else {}
    return run_parameters(
        config,
        package,
        profile,
        data_digest=digests.get(DATA_DIGEST, ""),
        software_digest=code_digest(),
        input_digests={name: digest for name, digest in digests.items() if name != DATA_DIGEST},
    )


def _digests(config: RunConfig, console: Console) -> dict[str, str]:
    from visionyard.storage import source_digest

    try:
        with console.status(f"looking at {config.data.source}"):
            return {DATA_DIGEST: source_digest(config.data.source), **input_digests(config)}
    except StorageError as error:
        raise StorageError(
            f"{error}; if only the cluster can reach it, submit with --fresh: the run then reads the source anew "
            "instead of asking whether it changed"
        ) from None
