"""Compile a pipeline to the YAML that Kubeflow Pipelines runs."""

import pkgutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from visionyard.cluster.lint import find_lint
from visionyard.cluster.packages import Package, read_package
from visionyard.cluster.profiles import DEFAULT_PROFILE, Profile, compiling, load_profile
from visionyard.cluster.shared_memory import SHAPING_PARAMETERS
from visionyard.digests import digest_of
from visionyard.errors import ConfigError

# A hundred schedules share a few pipelines, and each compilation takes a second.
_made: dict[tuple[str, str, str], Package] = {}


def pipeline_names() -> list[str]:
    """Return the names of all pipelines, sorted."""
    from visionyard import pipelines

    return sorted(module.name for module in pkgutil.iter_modules(pipelines.__path__) if module.ispkg)


def stage_names() -> list[str]:
    """Return the names of all stages, sorted: those that a profile may speak of."""
    from visionyard import components

    return sorted(module.name for module in pkgutil.iter_modules(components.__path__) if module.ispkg)


def compile_pipeline(
    name: str, path: Path, *, parameters: dict[str, Any] | None = None, profile: str | Path | Profile = DEFAULT_PROFILE
) -> None:
    """Write the compiled pipeline; nothing is left behind when it fails.

    Args:
        name: A pipeline's name.
        path: The `.yaml` file to write.
        parameters: Values that become the defaults of its run form; those that it has no parameter for are left out.
        profile: Which pods its stages get: a profile that comes with the package, a file, or a loaded one.

    Raises:
        ConfigError: There is no such pipeline or profile, the file is not a `.yaml`, the profile is impossible, or the
            pipeline would break on the backend.
    """
    if name not in pipeline_names():
        raise ConfigError(f"{name}: no such pipeline; known: {', '.join(pipeline_names())}")
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"{path}: expected a file that ends in .yaml")
    loaded = profile if isinstance(profile, Profile) else load_profile(profile)
    loaded.check_stages(stage_names())
    from kfp import compiler

    composed = import_module(f"visionyard.pipelines.{name}")
    values = _of_the_pipeline(getattr(composed, name), {**loaded.parameters(), **(parameters or {})})
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".partial-{path.name}")
    try:
        pipeline = _composed_with(getattr(composed, name), loaded, values)
        compiler.Compiler().compile(pipeline, str(work), pipeline_parameters=values)
        if problems := find_lint(read_package(work), loaded):
            raise ConfigError([f"{name}: {problem}" for problem in problems])
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


def make_package(name: str, profile: Profile, parameters: dict[str, Any]) -> Package:
    """Return a compiled pipeline that is sent to a server.

    Parameters are not compiled in: they go with the request. Only what shapes the pods is looked at.

    Args:
        name: A pipeline's name.
        profile: Which pods its stages get.
        parameters: Of the run.

    Raises:
        ConfigError: As `compile_pipeline`.
    """
    shaping = {key: value for key, value in parameters.items() if key in SHAPING_PARAMETERS}
    key = (name, profile.digest, digest_of(shaping))
    if key not in _made:
        with tempfile.TemporaryDirectory(prefix="visionyard-compile-") as folder:
            path = Path(folder) / f"{name}.yaml"
            compile_pipeline(name, path, parameters=shaping, profile=profile)
            _made[key] = read_package(path)
    return _made[key]


def _of_the_pipeline(pipeline: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    inputs = pipeline.component_spec.inputs or {}
    return {name: value for name, value in parameters.items() if name in inputs}


def _composed_with(pipeline: Any, profile: Profile, parameters: dict[str, Any]) -> Any:
    """Compose a pipeline anew: KFP did it when the module was imported, without a profile."""
    from kfp import dsl

    spec = pipeline.component_spec
    with compiling(profile, parameters):
        return dsl.pipeline(
            name=spec.name,
            display_name=pipeline.pipeline_spec.pipeline_info.display_name or None,
            pipeline_config=pipeline.pipeline_config,
        )(pipeline.pipeline_func)
