"""Profiles: on which machines, with what, as whom the stages of a pipeline run.

A profile is a YAML file. `load_profile` reads and checks it, `compiling` makes it the one that a pipeline is compiled
with, and a pipeline calls `settle(task, "train_model")` for each of its tasks.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from visionyard.cluster.profile_checks import find_impossible
from visionyard.cluster.profile_schema import ProfileFile, StageProfile
from visionyard.cluster.quantities import parse_memory
from visionyard.cluster.shared_memory import shared_memory_bytes
from visionyard.cluster.stage_settings import StageSettings
from visionyard.config import describe_problems
from visionyard.errors import ConfigError
from visionyard.events import EVENTS_VARIABLE
from visionyard.storage import join

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask
    from kfp.dsl.pipeline_channel import PipelineChannel

DEFAULT_PROFILE = "cpu"
_SHIPPED = Path(__file__).parent / "profiles"
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"


@dataclass(frozen=True)
class Profile:
    """A checked profile.

    Attributes:
        name: Its name, or the path it was read from.
        file: Its values, those of the profiles it extends included.
    """

    name: str
    file: ProfileFile

    @property
    def service_account(self) -> str:
        """Account of every pod of a run."""
        return self.file.service_account

    @property
    def store(self) -> str:
        """The s3:// prefix for artifacts and checkpoints, without a slash at its end; empty: none."""
        return self.file.store.rstrip("/")

    @cached_property
    def digest(self) -> str:
        """Digest of its values."""
        from visionyard.digests import digest_of

        return digest_of(self.file.model_dump(mode="json"))

    def stage(self, name: str, parameters: Mapping[str, Any] | None = None) -> StageSettings:
        """Return the settings of a stage.

        Args:
            name: The stage, which is its component's name.
            parameters: Pipeline parameters, from which shared memory is computed; the pipeline's defaults where one
                is missing.

        Raises:
            ConfigError: The shared memory that these parameters need does not fit into the stage's memory.
        """
        merged = merged_stage(self.file, name)
        labels = dict(merged.labels)
        if merged.queue:
            labels[_QUEUE_LABEL] = merged.queue
        if merged.priority_class:
            labels[_PRIORITY_LABEL] = merged.priority_class
        env = dict(merged.env)
        if self.store:
            env.setdefault(EVENTS_VARIABLE, join(self.store, "events"))
        own = {"image", "priority_class", "queue", "shm", "spot", "labels", "env", "tolerations", "affinity", "secrets"}
        values = {key: getattr(merged, key) for key in StageProfile.model_fields if key not in own}
        return StageSettings(
            **values,
            labels=labels,
            env=env,
            tolerations=tuple(merged.tolerations),
            affinity=tuple(merged.affinity),
            secrets=tuple(merged.secrets),
            shm_bytes=_shm_bytes(self.name, name, merged, parameters or {}),
            image_pull_secrets=tuple(self.file.image_pull_secrets),
        )

    def is_spot(self, stage: str) -> bool:
        """Return whether a stage runs on nodes that may be taken away."""
        return merged_stage(self.file, stage).spot

    def with_store(self, store: str) -> "Profile":
        """Return it with another store; the same for an empty text."""
        return Profile(self.name, self.file.model_copy(update={"store": store})) if store else self

    def image(self, stage: str, reference: str) -> str:
        """Return the image that a stage runs in.

        Args:
            stage: The stage.
            reference: The image that its component names, `prefix/name:tag`.
        """
        prefix, _, last = reference.rpartition("/")
        name, colon, tag = last.partition(":")
        replaced = merged_stage(self.file, stage).image or self.file.images.get(name, name)
        if "/" in replaced or ":" in replaced:
            return replaced
        prefix = self.file.image_prefix.rstrip("/") or prefix
        return f"{prefix}/{replaced}{colon}{tag}" if prefix else f"{replaced}{colon}{tag}"

    def parameters(self) -> dict[str, str]:
        """Return the run-time resource parameters of a pipeline: those of its training pod."""
        settings = self.stage("train_model")
        return {
            "resources_cpu": settings.cpu_limit,
            "resources_memory": settings.memory_limit,
            "resources_accelerator_type": settings.accelerator_type or "nvidia.com/gpu",
            "resources_accelerator_count": str(settings.accelerator_count),
        }

    def check_stages(self, known: Iterable[str]) -> None:
        """Refuse settings of stages that are not there.

        Raises:
            ConfigError: The profile names a stage that is none of `known`.
        """
        names = sorted(known)
        unknown = sorted(set(self.file.stages) - set(names))
        if unknown:
            raise ConfigError(
                [f"{self.name}: stages.{name}: no such stage; known: {', '.join(names)}" for name in unknown]
            )


@dataclass(frozen=True)
class Compilation:
    """What a pipeline is compiled with.

    Attributes:
        profile: Settings of the pods.
        parameters: Values that become the defaults of the run form.
    """

    profile: Profile
    parameters: Mapping[str, Any]


_compilation: ContextVar[Compilation | None] = ContextVar("compilation", default=None)


@contextmanager
def compiling(profile: Profile, parameters: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Compose a pipeline with a profile: `settle` reads it while the block runs."""
    token = _compilation.set(Compilation(profile, dict(parameters or {})))
    try:
        yield
    finally:
        _compilation.reset(token)


def settle(
    task: "PipelineTask",
    stage: str,
    *,
    cpu: "PipelineChannel | str" = "",
    memory: "PipelineChannel | str" = "",
    accelerator_type: "PipelineChannel | str" = "",
    accelerator_count: "PipelineChannel | str" = "",
    profile: str = "",
) -> "PipelineTask":
    """Give a task what the profile sets for its stage.

    Outside `compiling` nothing is set. KFP composes a pipeline when its module is imported, and looks through the whole
    stack at each setting, which took 6 s of a core in that import; `compile_pipeline` composes it again.

    The four amounts may be pipeline parameters of type `str`, so that the run form can change them; that works for
    tasks at the top level of a pipeline only. Without them the profile's values are compiled in.

    Args:
        task: A task of the pipeline that is being composed.
        stage: Its stage's name in profiles.
        cpu: Most cores.
        memory: Most memory.
        accelerator_type: Resource name of the accelerator.
        accelerator_count: How many of them, as text.
        profile: Name or path of the task's own profile, whose store is the run's; empty: the one that is compiled with.

    Returns:
        The task.

    Raises:
        ConfigError: The parameters that are compiled with do not fit the profile, or there is no such profile.
    """
    compilation = _compilation.get()
    if compilation is None:
        return task
    from visionyard.cluster.settling import Amounts, apply_settings

    chosen = load_profile(profile).with_store(compilation.profile.store) if profile else compilation.profile
    settings = chosen.stage(stage, compilation.parameters)
    amounts = Amounts(cpu, memory, accelerator_type, accelerator_count)
    image = chosen.image(stage, str(task.container_spec.image))
    return apply_settings(task, settings, image=image, amounts=amounts)


def profile_names() -> list[str]:
    """Return the names of the profiles that come with the package, sorted."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_profile(name: str | Path) -> Profile:
    """Return a profile, checked.

    Args:
        name: One that comes with the package, or the path of a YAML file.

    Raises:
        ConfigError: There is none, or it has mistakes; lists all of them.
    """
    text = str(name)
    if text in profile_names():
        return _shipped(text)
    return _load(text, Path(text).expanduser())


@cache
def _shipped(name: str) -> Profile:
    return _load(name, _SHIPPED / f"{name}.yaml")


def _load(name: str, path: Path) -> Profile:
    values = _read(path, [])
    try:
        file = ProfileFile.model_validate(values)
    except ValidationError as error:
        raise ConfigError([f"{name}: {problem}" for problem in describe_problems(error, ProfileFile)]) from None
    stages = {stage: merged_stage(file, stage) for stage in ("", *file.stages)}
    problems = find_impossible(stages)
    if problems:
        raise ConfigError([f"{name}: {problem}" for problem in problems])
    profile = Profile(name, file)
    for stage in file.stages:
        profile.stage(stage)
    return profile


def _read(path: Path, seen: list[str]) -> dict[str, Any]:
    """Return a profile's values laid over those of the one it extends."""
    key = str(path.resolve())
    if key in seen:
        raise ConfigError(f"{path}: it extends itself, by way of {' and '.join(seen[1:]) or 'itself'}")
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(
            f"{path}: no such profile; known: {', '.join(profile_names())}, or the path of a .yaml file of your own"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `visionyard profiles` lists the profiles there are") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys such as `defaults:` and `stages:`, got {values!r}")
    base = values.get("extends")
    if not base or not isinstance(base, str):
        return values
    base_path = _SHIPPED / f"{base}.yaml" if base in profile_names() else path.parent / base
    return _laid_over(_read(base_path, [*seen, key]), values)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge maps key by key; any other value replaces what stood there."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def merged_stage(file: ProfileFile, stage: str) -> StageProfile:
    """Return a stage's values laid over the defaults; those of no stage in particular for an empty name."""
    below = file.defaults.model_dump(exclude_unset=True)
    above = file.stages[stage].model_dump(exclude_unset=True) if stage in file.stages else {}
    return StageProfile.model_validate(_laid_over(below, above))


def _shm_bytes(profile: str, stage: str, merged: StageProfile, parameters: Mapping[str, Any]) -> int:
    if merged.shm != "auto":
        return parse_memory(merged.shm) if merged.shm else 0
    needed, reason = shared_memory_bytes(parameters, has_accelerator=merged.accelerator_count > 0)
    if merged.memory_limit and needed > parse_memory(merged.memory_limit):
        raise ConfigError(
            f"{profile}: stages.{stage}: {reason} need {needed >> 20} MiB of shared memory, more than the stage's "
            f"memory_limit {merged.memory_limit}; lower the batch size or the loader workers, or raise memory_limit"
        )
    return needed
