"""The stage compare_nodes."""

from kfp import dsl

from visionyard.components._images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def compare_nodes(
    node_1: dsl.Input[dsl.Artifact],
    table: dsl.Output[dsl.Markdown],
    fleet: dsl.Output[dsl.Artifact],
    node_2: dsl.Input[dsl.Artifact] = None,
    node_3: dsl.Input[dsl.Artifact] = None,
    node_4: dsl.Input[dsl.Artifact] = None,
    node_5: dsl.Input[dsl.Artifact] = None,
    node_6: dsl.Input[dsl.Artifact] = None,
    node_7: dsl.Input[dsl.Artifact] = None,
    node_8: dsl.Input[dsl.Artifact] = None,
    prices_uri: str = "",
) -> None:
    """Put the measurements of several nodes into one table, with the cost of 1,000 images.

    Args:
        node_1: From benchmark_node.
        node_2: From benchmark_node.
        node_3: From benchmark_node.
        node_4: From benchmark_node.
        node_5: From benchmark_node.
        node_6: From benchmark_node.
        node_7: From benchmark_node.
        node_8: From benchmark_node.
        prices_uri: The price table; empty takes VISIONYARD_PRICES, and without one the cost is left out.

    Returns:
        table: A row for each node, the cheapest first.
        fleet: The same as JSON.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("compare_nodes"):
        from pathlib import Path

        from visionyard.cluster.fleet import compare

        nodes = [node_1, node_2, node_3, node_4, node_5, node_6, node_7, node_8]
        rows = compare(
            [Path(node.path) for node in nodes if node is not None],
            table=Path(table.path),
            fleet=Path(fleet.path),
            prices_uri=prices_uri,
        )
        first = rows[0]
        fleet.metadata.update({"best_node": first.node_type, "node_count": len(rows)})
        cost = {"per_1000_images": f"{first.per_1000_images:.6f} {first.currency}"} if first.currency else {}
        events.figures(best_node=first.node_type, images_per_s=first.images_per_s, **cost)
