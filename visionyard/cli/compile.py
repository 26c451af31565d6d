"""Compile a pipeline to the YAML that Kubeflow Pipelines runs."""

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from visionyard.errors import ConfigError


def pipeline_names() -> list[str]:
    """Return the names of all pipelines, sorted."""
    from visionyard import pipelines

    return sorted(module.name for module in pkgutil.iter_modules(pipelines.__path__) if module.ispkg)


def compile_pipeline(name: str, path: Path, *, parameters: dict[str, Any] | None = None) -> None:
    """Write the compiled pipeline; nothing is left behind when it fails.

    Args:
        name: A pipeline's name.
        path: The `.yaml` file to write.
        parameters: Values that become the defaults of its run form.

    Raises:
        ConfigError: There is no such pipeline, or the file is not a `.yaml`.
    """
    if name not in pipeline_names():
        raise ConfigError(f"{name}: no such pipeline; known: {', '.join(pipeline_names())}")
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"{path}: expected a file that ends in .yaml")
    from kfp import compiler

    pipeline = getattr(import_module(f"visionyard.pipelines.{name}"), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".partial-{path.name}")
    try:
        compiler.Compiler().compile(pipeline, str(work), pipeline_parameters=parameters)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
