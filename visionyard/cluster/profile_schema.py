"""What a profile file may hold: closed, and every value checked."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from visionyard.cluster.quantities import parse_cpu, parse_memory
from visionyard.config import Section


def _text(value: object) -> object:
    """Turn 2 into "2": YAML reads a bare number so."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _cpu(value: str) -> str:
    if value:
        parse_cpu(value)
    return value


def _memory(value: str) -> str:
    if value:
        parse_memory(value)
    return value


def _shm(value: str) -> str:
    return value if value == "auto" else _memory(value)


Cpu = Annotated[str, BeforeValidator(_text), AfterValidator(_cpu)]
Memory = Annotated[str, BeforeValidator(_text), AfterValidator(_memory)]
SharedMemory = Annotated[str, BeforeValidator(_text), AfterValidator(_shm)]
# Label values, such as "true", that YAML reads as something else must be put in quotes; numbers are taken as they are.
Labels = dict[str, Annotated[str, BeforeValidator(_text)]]


class Toleration(Section):
    """A taint that a pod may run beside."""

    key: str = Field("", description="The taint's key; empty with operator Exists tolerates all.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="Whether the value has to be the same.")
    value: str = Field("", description="The taint's value, with operator Equal.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field("", description="Empty: all effects.")

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError(f"operator Exists takes no value, got {self.value!r}; drop it or take Equal")
        if self.operator == "Equal" and not self.key:
            raise ValueError("operator Equal needs a key; to tolerate all taints, take operator Exists")
        return self


class NodeExpression(Section):
    """One condition on a node's labels."""

    key: str = Field(min_length=1, description="The label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field("In", description="How to compare.")
    values: list[str] = Field(default_factory=list, description="What to compare with.")

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        takes_none = self.operator in {"Exists", "DoesNotExist"}
        if takes_none == bool(self.values):
            raise ValueError(f"operator {self.operator} takes {'no values' if takes_none else 'at least one value'}")
        return self


class NodeAffinity(Section):
    """Nodes that a pod has to have, or would like."""

    match: list[NodeExpression] = Field(min_length=1, description="Conditions that hold together.")
    weight: int = Field(0, ge=0, le=100, description="0: required; 1 to 100: preferred that much.")


class SecretVariables(Section):
    """Keys of a Secret that become environment variables."""

    name: str = Field(min_length=1, description="The Secret.")
    variables: dict[str, str] = Field(min_length=1, description="Environment variable to the Secret's key.")
    optional: bool = Field(True, description="Start the pod without it where it is absent; the stage then says so.")


class Scratch(Section):
    """A volume of the pod's own for temporary files."""

    size: Memory = Field(min_length=1, description="Its size, such as 100Gi.")
    path: str = Field("/tmp", pattern=r"^/.+", description="Where it is mounted.")  # noqa: S108 (in a pod)
    storage_class: str = Field(
        "", description="Empty: an emptyDir on the node's disk; a class: a volume claim that lives as long as the pod."
    )


class StageProfile(Section):
    """Settings of one stage's pod; what is left out is taken from `defaults`."""

    image: str = Field("", description="Another of our images, or a full reference; empty: the stage's own.")
    cpu_request: Cpu = Field("", description="Cores set aside; empty: as many as the limit.")
    cpu_limit: Cpu = Field("", description="Most cores.")
    memory_request: Memory = Field("", description="Memory set aside; empty: as much as the limit.")
    memory_limit: Memory = Field("", description="Most memory; a pod that takes more is killed.")
    accelerator_type: str = Field("", description="Resource name, such as nvidia.com/gpu.")
    accelerator_count: int = Field(0, ge=0, description="How many of them; 0: none.")
    node_selector: Labels = Field(default_factory=dict, description="Labels a node must have.")
    tolerations: list[Toleration] = Field(default_factory=list, description="Taints the pod may run beside.")
    affinity: list[NodeAffinity] = Field(default_factory=list, description="Nodes required or preferred.")
    spot: bool = Field(False, description="Runs on nodes that may be taken away; needs a toleration for their taint.")
    priority_class: str = Field(
        "", description="Kueue's WorkloadPriorityClass; KFP has no field for a pod's own priority, so it needs a queue."
    )
    queue: str = Field("", description="Kueue's LocalQueue that admits the pod.")
    shm: SharedMemory = Field(
        "", description="Size of /dev/shm; auto: computed from loader workers, batch and image size; empty: 64 MiB."
    )
    scratch: Scratch | None = Field(None, description="A volume for temporary files; none: the container's own disk.")
    secrets: list[SecretVariables] = Field(default_factory=list, description="Secrets as environment variables.")
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables; never secrets.")
    timeout_s: int = Field(0, ge=0, description="The pod is stopped after so many seconds; 0: never.")
    retries: int = Field(0, ge=0, le=20, description="How often a lost pod is made again; failures are not retried.")
    labels: Labels = Field(default_factory=dict, description="Labels of the pod.")
    annotations: Labels = Field(default_factory=dict, description="Annotations of the pod.")
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = Field("", description="Empty: Kubernetes' own.")
    run_as_user: int | None = Field(
        1000, ge=1, description="User of the process; null: whom the image or the platform names, never root."
    )


class ProfileFile(Section):
    """A profile as it stands in its file."""

    description: str = Field("", description="What it is for, in one line.")
    extends: str = Field("", description="Another profile, by name or path, whose values this one changes.")
    service_account: str = Field(
        "visionyard-pipeline", description="Account of every pod of a run; KFP has one for the whole run."
    )
    image_prefix: str = Field("", description="Registry and path of the images; empty: as the package names them.")
    images: dict[str, str] = Field(
        default_factory=dict,
        description="Image to what replaces it: another of ours (train-python: train-cpu-python) or a full reference.",
    )
    image_pull_secrets: list[str] = Field(default_factory=list, description="Secrets of the images' registry.")
    store: str = Field(
        "", pattern=r"^(s3://.+)?$", description="s3:// prefix for artifacts and checkpoints; empty: KFP's, and none."
    )
    defaults: StageProfile = StageProfile()
    stages: dict[str, StageProfile] = Field(default_factory=dict, description="Stage to what differs for it.")
