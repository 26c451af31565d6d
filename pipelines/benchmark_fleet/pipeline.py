"""The pipeline benchmark_fleet: the same bundle on several kinds of node; wiring only.

A node type is a profile, since where a pod runs is settled when a pipeline is compiled: VISIONYARD_FLEET lists them.
"""

from kfp import dsl

from visionyard.cluster.fleet import fleet_profiles, node_type_of
from visionyard.cluster.profiles import settle
from visionyard.components.benchmark_node import benchmark_node
from visionyard.components.compare_nodes import compare_nodes


@dsl.pipeline(name="benchmark-fleet", display_name="Benchmark a fleet")
def benchmark_fleet(
    bundle_uri: str,
    dataset_uri: str,
    batch_sizes: list = [1, 8],
    threads: list = [1, 2],
    repeat_count: int = 30,
    warmup_count: int = 3,
    prices_uri: str = "",
) -> None:
    """A model bundle and a dataset version in, a table of node types by speed and cost out.

    Args:
        bundle_uri: The model bundle: a folder or s3:// prefix.
        dataset_uri: A dataset version; its test images are measured on.
        batch_sizes: Images per call.
        threads: Intra-operator threads; more than the cores are skipped.
        repeat_count: Timed calls of each combination.
        warmup_count: Calls before the timed ones.
        prices_uri: The price table; empty takes VISIONYARD_PRICES, and without one the cost is left out.
    """
    nodes = {}
    for number, name in enumerate(fleet_profiles(), start=1):
        measured = benchmark_node(
            node_type=node_type_of(name),
            bundle_uri=bundle_uri,
            dataset_uri=dataset_uri,
            batch_sizes=batch_sizes,
            threads=threads,
            repeat_count=repeat_count,
            warmup_count=warmup_count,
        )
        measured.set_display_name(f"benchmark {node_type_of(name)}")
        # A measurement from a cache would be of another day's machine.
        measured.set_caching_options(False)
        settle(measured, "benchmark_node", profile=name)
        nodes[f"node_{number}"] = measured.outputs["measured"]
    compared = compare_nodes(**nodes, prices_uri=prices_uri)
    compared.set_caching_options(False)
    settle(compared, "compare_nodes")
