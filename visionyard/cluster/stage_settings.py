"""What the pod of one stage gets, once a profile is settled."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from visionyard.cluster.profile_schema import NodeAffinity, Scratch, SecretVariables, Toleration


@dataclass(frozen=True)
class StageSettings:
    """What the pod of one stage gets. Empty texts and zeros mean: not set.

    Attributes:
        cpu_request: Cores set aside; as many as the limit when empty.
        cpu_limit: Most cores.
        memory_request: Memory set aside; as much as the limit when empty.
        memory_limit: Most memory.
        accelerator_type: Resource name, such as `nvidia.com/gpu`.
        accelerator_count: How many of them.
        node_selector: Labels a node must have.
        tolerations: Taints the pod may run beside.
        affinity: Nodes required or preferred.
        shm_bytes: Size of /dev/shm; 0: the container's 64 MiB.
        scratch: A volume for temporary files.
        secrets: Secrets as environment variables.
        env: Environment variables.
        timeout_s: The pod is stopped after so many seconds.
        retries: How often a lost pod is made again.
        labels: Labels of the pod, those of Kueue's queue and priority included.
        annotations: Annotations of the pod.
        image_pull_policy: As Kubernetes writes it.
        image_pull_secrets: Secrets of the images' registry.
        run_as_user: User of the process; None: whom the image or the platform names.
    """

    cpu_request: str = ""
    cpu_limit: str = ""
    memory_request: str = ""
    memory_limit: str = ""
    accelerator_type: str = ""
    accelerator_count: int = 0
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: tuple[NodeAffinity, ...] = ()
    shm_bytes: int = 0
    scratch: Scratch | None = None
    secrets: tuple[SecretVariables, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: int = 0
    retries: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    run_as_user: int | None = None
