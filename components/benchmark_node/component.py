"""The stage benchmark_node."""

from kfp import dsl

from visionyard.components._images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def benchmark_node(
    measured: dsl.Output[dsl.Artifact],
    node_type: str,
    bundle_uri: str,
    dataset_uri: str,
    batch_sizes: list = [1, 8],
    threads: list = [1, 2],
    repeat_count: int = 30,
    warmup_count: int = 3,
) -> None:
    """Measure a model bundle on the node that this stage runs on.

    Args:
        node_type: What the table calls the node.
        bundle_uri: The model bundle: a folder or s3:// prefix.
        dataset_uri: A dataset version; its test images are measured on.
        batch_sizes: Images per call.
        threads: Intra-operator threads; more than the cores are skipped.
        repeat_count: Timed calls of each combination.
        warmup_count: Calls before the timed ones.

    Returns:
        measured: The benchmark, and what the node's container held.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("benchmark_node"):
        from pathlib import Path

        from visionyard.cluster.fleet import measure_node

        report = measure_node(
            bundle_uri,
            dataset_uri,
            Path(measured.path),
            node_type=node_type,
            batch_sizes=[int(size) for size in batch_sizes],
            threads=[int(count) for count in threads],
            repeat_count=repeat_count,
            warmup_count=warmup_count,
        )
        measured.metadata.update({"node_type": node_type, **report.metadata()})
        events.figures(node=node_type, **report.figures())
