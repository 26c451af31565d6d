"""The stage deploy_model."""

from typing import NamedTuple

from kfp import dsl

from visionyard.components._images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def deploy_model(
    bundle: dsl.Input[dsl.Model],
    verdict: str,
    run_name: str = "run",
    target: str = "none",
    name: str = "",
    namespace: str = "",
    store_uri: str = "",
    format: str = "onnx",  # noqa: A002 (the run config's word)
    image: str = "",
    mode: str = "Standard",
    min_replicas: int = 1,
    max_replicas: int = 1,
    scale_metric: str = "cpu",
    scale_target: int = 80,
    cpu: str = "1",
    memory: str = "2Gi",
    gpu_count: int = 0,
    service_account: str = "visionyard-serving",
    credentials: str = "visionyard-s3",
    canary_percent: int = 0,
    canary_requests: int = 300,
    canary_duration_s: float = 1800.0,
    timeout_s: float = 600.0,
    options: dict = {},
    software_digest: str = "",
) -> NamedTuple("Deployed", [("url", str)]):
    """Serve the bundle where the run config says, if the verdict on it is to promote.

    Args:
        bundle: From export_model.
        verdict: promote or reject; only what is promoted is deployed.
        run_name: Name of the service where none is given.
        target: none deploys nothing; kserve, kubernetes (a plain Deployment), runpod, huggingface.
        name: Name of the service; empty: the run's name.
        namespace: Kubernetes namespace; empty: the account's own.
        store_uri: s3://bucket/prefix below which bundles are put, each under its digest.
        format: Format of the bundle that is served, onnx or torchscript.
        image: Serving image; empty: that of this version.
        mode: How KServe runs it, Standard or Knative.
        min_replicas: Fewest pods; 0 scales to zero.
        max_replicas: Most pods.
        scale_metric: What the number of pods follows.
        scale_target: Of scale_metric, a pod.
        cpu: CPU cores of a pod, as Kubernetes writes them.
        memory: Memory of a pod, the same way.
        gpu_count: GPUs of a pod.
        service_account: Account of the pods.
        credentials: Secret of the object store, read by the kubernetes target.
        canary_percent: Share of the traffic that judges a new bundle beside the old one; 0 makes no canary.
        canary_requests: Answers of the canary before it can be promoted.
        canary_duration_s: A canary that is undecided after this is rolled back, seconds.
        timeout_s: Longest wait for a new bundle to serve, seconds.
        options: The target's own options.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        url: Where it answers; empty when nothing was deployed.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("deploy_model"):
        from pathlib import Path

        from visionyard.cluster.deploy import deploy_verdict

        settings = {
            "target": target,
            "name": name or (run_name if target != "none" else ""),
            "namespace": namespace,
            "store_uri": store_uri,
            "format": format,
            "image": image,
            "mode": mode,
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "scale_metric": scale_metric,
            "scale_target": scale_target,
            "cpu": cpu,
            "memory": memory,
            "gpu_count": gpu_count,
            "service_account": service_account,
            "credentials": credentials,
            "canary_percent": canary_percent,
            "canary_requests": canary_requests,
            "canary_duration_s": canary_duration_s,
            "timeout_s": timeout_s,
            "options": options,
        }
        url = deploy_verdict(Path(bundle.path), verdict, settings)
    return (url,)
