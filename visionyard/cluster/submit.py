"""From a run config to what the API of Kubeflow Pipelines is sent."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import yaml

from visionyard.anonymization import input_addresses
from visionyard.cluster.kfp_api import KfpApi
from visionyard.cluster.packages import Package
from visionyard.cluster.profiles import Profile
from visionyard.config import RunConfig, to_parameters
from visionyard.errors import ConfigError
from visionyard.storage import is_local, join

_UPLOAD_ADVICE = "put it into the object store (docs/submitting.md) and name it as s3://bucket/prefix"


def find_unreachable(config: RunConfig) -> list[str]:
    """Return a sentence for each thing of a config that a pod cannot reach: paths of this machine."""
    problems = []
    if is_local(config.data.source):
        problems.append(
            f"data.source = {config.data.source!r}: a path of this machine, which no pod can read; {_UPLOAD_ADVICE}"
        )
    beside = {"data.split_file": [config.data.split_file] if config.data.split_file else []}
    beside["frames.anonymize"] = input_addresses(config.frames.anonymize)
    problems += [
        f"{name}: {address!r} is a path of this machine, which no pod can read; {_UPLOAD_ADVICE}"
        for name, addresses in beside.items()
        for address in addresses
        if is_local(address)
    ]
    weights = config.model.weights
    # A bare name is one that the plugin knows, or it fails with the plugin's own words.
    if weights and ("/" in weights or weights.startswith("~")) and is_local(weights):
        problems.append(f"model.weights = {weights!r}: a path of this machine, which no pod can read; {_UPLOAD_ADVICE}")
    if config.promotion.store and is_local(config.promotion.store):
        problems.append(
            f"promotion.store = {config.promotion.store!r}: a path of this machine; name an s3:// prefix, or leave it "
            "empty for one below the profile's store"
        )
    if config.training.device.startswith("cuda:"):
        problems.append(
            f"training.device = {config.training.device!r}: a pod sees only its own devices; set auto, cpu or cuda, "
            "and let the profile choose the accelerator"
        )
    return problems


def read_parameters(texts: Sequence[str], package: Package) -> dict[str, Any]:
    """Return pipeline parameters from `name=value` texts; a value that is no text is read as YAML.

    Args:
        texts: As on the command line; of two with the same name the last one wins.
        package: The compiled pipeline, which knows their types.

    Raises:
        ConfigError: A text is none of these, or names a parameter that the pipeline lacks; lists all mistakes.
    """
    found: dict[str, Any] = {}
    problems = []
    for text in texts:
        name, separator, value = text.partition("=")
        definition = package.inputs.get(name)
        if not separator:
            problems.append(f"--parameter {text}: expected name=value, such as worker_count=4")
        elif definition is None:
            known = ", ".join(sorted(package.inputs))
            problems.append(f"--parameter {name}: the pipeline {package.name} has no such parameter; it has {known}")
        elif definition["parameterType"] == "STRING":
            found[name] = value
        else:
            try:
                found[name] = yaml.safe_load(value)
            except yaml.YAMLError:
                problems.append(f"--parameter {text}: the value is not valid YAML")
    if problems:
        raise ConfigError(problems)
    return found


def find_unreachable_parameters(parameters: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each address among pipeline parameters that a pod cannot reach."""
    named = [
        (name, address)
        for name, value in parameters.items()
        if name == "sources" or name.endswith("_uri")
        for address in (value if isinstance(value, list) else [value])
    ]
    return [
        f"{name}: {address!r} is a path of this machine, which no pod can read; {_UPLOAD_ADVICE}"
        for name, address in named
        if isinstance(address, str) and address and is_local(address)
    ]


def find_unfit(profile: Profile) -> list[str]:
    """Return why runs with this profile would be lost or never start: placeholders, checkpoints without a place."""
    problems = []
    for name, value in (("store", profile.store), ("image_prefix", profile.file.image_prefix)):
        if value != value.lower():
            problems.append(
                f"profile {profile.name}: {name} = {value!r}: still a placeholder (neither a bucket nor an image may "
                "hold capital letters); write a profile that extends this one"
            )
    if profile.is_spot("train_model") and not profile.store:
        reason = "train_model runs on spot nodes, and without a store its checkpoints are lost with the node"
        problems.append(
            f"profile {profile.name}: {reason}; set `store: s3://bucket/prefix` in the profile, or give --store"
        )
    return problems


def run_parameters(
    config: RunConfig,
    package: Package,
    profile: Profile,
    *,
    data_digest: str,
    software_digest: str,
    input_digests: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the parameters of a run: the config's, and what a run knows beyond it.

    Args:
        config: What to run.
        package: The compiled pipeline; parameters that it lacks are left out.
        profile: Its store holds the checkpoints.
        data_digest: Of the source; empty: not known.
        software_digest: Of the code.
        input_digests: Parameters that say what other files hold, such as `data_split_file_digest`.

    Raises:
        ConfigError: The pipeline remembers what it has seen, and there is no store to keep that.
    """
    parameters = to_parameters(config) | {"data_digest": data_digest, "software_digest": software_digest}
    parameters |= input_digests
    if profile.store:
        parameters["training_checkpoints_uri"] = join(profile.store, f"checkpoints/{config.name}")
        parameters["promotion_store"] = config.promotion.store or join(profile.store, "promotion")
    if "retrain_warm_start" in package.inputs and not parameters["promotion_store"]:
        raise ConfigError(
            f"{package.name}: keeps in the store which data it has seen, and none is named; set promotion.store, or "
            "`store` in the profile, or give --store"
        )
    return {name: value for name, value in parameters.items() if name in package.inputs}


def pipeline_root(profile: Profile) -> str:
    """Return where KFP keeps artifacts of a run; empty: where it always does."""
    return join(profile.store, "artifacts") if profile.store else ""


def submit_package(
    api: KfpApi,
    package: Package,
    *,
    name: str,
    experiment: str,
    parameters: Mapping[str, Any],
    profile: Profile,
    description: str = "",
) -> str:
    """Start a run of a compiled pipeline and return its id.

    Args:
        api: The server.
        package: The pipeline.
        name: Shown in the list of runs.
        experiment: The group of runs it belongs to; made when there is none.
        parameters: Of the pipeline.
        profile: The one it was compiled with: service account and store.
        description: Shown beside the run.

    Raises:
        ConfigError: A parameter is not the pipeline's, or of another type; nothing was sent.
        VisionyardError: The server cannot be reached or refuses.
    """
    package.check(parameters)
    body = {
        "display_name": name,
        "description": description,
        "experiment_id": api.ensure_experiment(experiment),
        "pipeline_spec": package.to_json(),
        "runtime_config": runtime_config(parameters, profile),
        "service_account": profile.service_account,
    }
    return str(api.create_run(body)["run_id"])


def runtime_config(parameters: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """Return the part of a request that says with what a pipeline runs."""
    root = pipeline_root(profile)
    return {"parameters": dict(parameters), **({"pipeline_root": root} if root else {})}
