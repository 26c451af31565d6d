"""`visionyard submit`: check, compile with a profile, send, and watch when asked to."""

import time
from dataclasses import dataclass

from rich.console import Console

from visionyard.cli.check import find_problems
from visionyard.cli.compile import make_package
from visionyard.cli.inputs import DATA_DIGEST, input_digests, unknown_digests
from visionyard.cli.runs import watch
from visionyard.cluster.kfp_api import KfpApi, find_server
from visionyard.cluster.packages import Package
from visionyard.cluster.profiles import Profile, load_profile
from visionyard.cluster.submit import find_unfit, find_unreachable, run_parameters, submit_package
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
    """

    pipeline: str
    profile: str
    store: str
    experiment: str
    is_fresh: bool


def submit_command(
    config: RunConfig, request: Request, *, host: str, namespace: str, is_waiting: bool, console: Console
) -> int:
    """Submit a run and return the exit code.

    Args:
        config: What to run.
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
    problems = find_unreachable(config) or find_problems(_without_device(config))
    problems += find_unfit(profile)
    if problems:
        raise ConfigError(problems)
    package = make_package(request.pipeline, profile, to_parameters(config))
    digests: dict[str, str] = {}
    if request.is_fresh:
        package = package.without_cached_source(unknown_digests(config))
    else:
        digests = _digests(config, console)
    run_id = _send(KfpApi(server), config, request, package, profile, digests)
    console.print(f"submitted [bold]{run_id}[/bold] with profile {profile.name}", soft_wrap=True)
    console.print(f"{server.host}/#/runs/details/{run_id}", soft_wrap=True)
    if is_waiting:
        return watch(KfpApi(server), run_id, console=console)
    console.print(f"follow it: visionyard runs watch {run_id} --host {server.host}", soft_wrap=True)
    return 0


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


def _send(
    api: KfpApi, config: RunConfig, request: Request, package: Package, profile: Profile, digests: dict[str, str]
) -> str:
    return submit_package(
        api,
        package,
        name=f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}",
        experiment=request.experiment or config.name,
        parameters=run_parameters(
            config,
            package,
            profile,
            data_digest=digests.get(DATA_DIGEST, ""),
            software_digest=code_digest(),
            input_digests={name: digest for name, digest in digests.items() if name != DATA_DIGEST},
        ),
        profile=profile,
        description=f"visionyard submit, profile {profile.name}",
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
