"""Nodes with GPUs that kwok plays, and the profile settings that lead pods to them."""

from typing import Any

GPU = "nvidia.com/gpu"
SPOT = "cloud.google.com/gke-spot"
POOL = "visionyard-test-pool"


def gpu_node(name: str, pool: str) -> dict[str, Any]:
    """Return a spot node with eight GPUs: a label, and the taints that GPU and spot nodes have."""
    taints = [
        {"key": GPU, "value": "present", "effect": "NoSchedule"},
        {"key": SPOT, "value": "true", "effect": "NoSchedule"},
    ]
    amounts = {"cpu": "32", "memory": "256Gi", "pods": "110", GPU: "8"}
    labels = {"kubernetes.io/hostname": name, POOL: pool, SPOT: "true"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}, "labels": labels},
        "spec": {"taints": taints},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def gpu_stage(pool: str) -> dict[str, Any]:
    """Return profile settings of a stage that runs on one GPU of such a node."""
    return {
        "accelerator_type": GPU,
        "accelerator_count": 1,
        "cpu_request": "4",
        "cpu_limit": "4",
        "memory_request": "16Gi",
        "memory_limit": "16Gi",
        "spot": True,
        "node_selector": {POOL: pool},
        "tolerations": [
            {"key": GPU, "operator": "Exists", "effect": "NoSchedule"},
            {"key": SPOT, "value": "true", "effect": "NoSchedule"},
        ],
    }
