"""Stage settings written onto a KFP task."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kfp import kubernetes

from visionyard.cluster.quantities import format_mebibytes
from visionyard.cluster.stage_settings import StageSettings
from visionyard.events import RUN_VARIABLE

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

_RETRY_BACKOFF = "30s"


@dataclass(frozen=True)
class Amounts:
    """Amounts that replace the profile's: pipeline parameters, or texts; an empty text keeps the profile's.

    Attributes:
        cpu: Most cores.
        memory: Most memory.
        accelerator_type: Resource name.
        accelerator_count: How many of them.
    """

    cpu: Any = ""
    memory: Any = ""
    accelerator_type: Any = ""
    accelerator_count: Any = ""


def apply_settings(task: "PipelineTask", settings: StageSettings, *, image: str, amounts: Amounts) -> "PipelineTask":
    """Write settings onto a task; see `visionyard.cluster.profiles.settle`."""
    task.set_container_image(image)
    _set_resources(task, settings, amounts)
    _set_placement(task, settings)
    _set_volumes(task, settings)
    _set_environment(task, settings)
    if settings.timeout_s:
        kubernetes.set_timeout(task, settings.timeout_s)
    if settings.retries:
        # KFP's manifests retry a lost pod only; a stage that fails is retried by the next run, from its checkpoint.
        task.set_retry(settings.retries, backoff_duration=_RETRY_BACKOFF, backoff_factor=2.0)
    for key, value in sorted(settings.labels.items()):
        kubernetes.add_pod_label(task, key, value)
    for key, value in sorted(settings.annotations.items()):
        kubernetes.add_pod_annotation(task, key, value)
    return task


def _given(value: Any) -> bool:
    # A pipeline channel's comparison makes a condition; only texts may be compared.
    return not isinstance(value, str) or value != ""


def _set_resources(task: "PipelineTask", settings: StageSettings, amounts: Amounts) -> None:
    cpu = amounts.cpu if _given(amounts.cpu) else settings.cpu_limit
    memory = amounts.memory if _given(amounts.memory) else settings.memory_limit
    kind = amounts.accelerator_type if _given(amounts.accelerator_type) else settings.accelerator_type
    count = amounts.accelerator_count
    if not _given(count):
        count = str(settings.accelerator_count) if settings.accelerator_count else ""
    for value, put in (
        (cpu, task.set_cpu_limit),
        (memory, task.set_memory_limit),
        # Kubernetes takes the limit where there is no request.
        (settings.cpu_request, task.set_cpu_request),
        (settings.memory_request, task.set_memory_request),
    ):
        if _given(value):
            put(value)
    if _given(count):
        task.set_accelerator_type(kind).set_accelerator_limit(count)


def _set_placement(task: "PipelineTask", settings: StageSettings) -> None:
    for key, value in sorted(settings.node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for toleration in settings.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key or None,
            operator=toleration.operator,
            value=toleration.value or None,
            effect=toleration.effect or None,
        )
    for affinity in settings.affinity:
        match = [expression.model_dump(exclude_defaults=False) for expression in affinity.match]
        kubernetes.add_node_affinity(task, match_expressions=match, weight=affinity.weight or None)


def _set_volumes(task: "PipelineTask", settings: StageSettings) -> None:
    if settings.shm_bytes:
        # A container has 64 MiB of shared memory unless a volume gives more.
        kubernetes.empty_dir_mount(
            task,
            volume_name="shared-memory",
            mount_path="/dev/shm",  # noqa: S108 (in a pod)
            medium="Memory",
            size_limit=format_mebibytes(settings.shm_bytes),
        )
    scratch = settings.scratch
    if scratch and scratch.storage_class:
        kubernetes.add_ephemeral_volume(
            task,
            volume_name="scratch",
            mount_path=scratch.path,
            access_modes=["ReadWriteOnce"],
            size=scratch.size,
            storage_class_name=scratch.storage_class,
        )
    elif scratch:
        kubernetes.empty_dir_mount(task, volume_name="scratch", mount_path=scratch.path, size_limit=scratch.size)


def _set_environment(task: "PipelineTask", settings: StageSettings) -> None:
    for name, value in sorted(settings.env.items()):
        task.set_env_variable(name, value)
    # The run's id is the identity under which its events and exit reports are found.
    kubernetes.use_field_path_as_env(task, env_name=RUN_VARIABLE, field_path="metadata.labels['pipeline/runid']")
    for secret in settings.secrets:
        keys = {key: variable for variable, key in sorted(secret.variables.items())}
        kubernetes.use_secret_as_env(task, secret_name=secret.name, secret_key_to_env=keys, optional=secret.optional)
    if settings.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(settings.image_pull_secrets))
    if settings.image_pull_policy:
        kubernetes.set_image_pull_policy(task, settings.image_pull_policy)
    kubernetes.set_security_context(task, run_as_user=settings.run_as_user, run_as_non_root=True)
