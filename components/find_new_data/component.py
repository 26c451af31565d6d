"""The stage find_new_data."""

from typing import NamedTuple

from kfp import dsl

from visionyard.components._images import TRAIN_IMAGE


# The train image, since the champion's weights come through MLflow's client. The decision is called Output because a
# condition on an output of another name is false in KFP 2.17's local runner, whatever its value, with only a warning.
@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def find_new_data(
    source: str,
    store: str,
    run_name: str = "run",
    model: str = "",
    weights: str = "",
    plugin: str = "",
    is_warm: bool = True,
    software_digest: str = "",
) -> NamedTuple("Found", [("Output", str), ("data_digest", str), ("weights", str)]):
    """Look whether the source has changed since the last retraining, and where a new one can start from.

    Args:
        source: Where the data is: a path, s3://bucket/prefix or http(s) address.
        store: Folder or s3:// prefix that holds the watermark.
        run_name: Name of the registered model where none is given.
        model: Name of the registered model.
        weights: What to start from where there is no champion.
        plugin: What is trained, as in model.name; some start from no weights.
        is_warm: Start from the champion's weights.
        software_digest: Digest of code and image.

    Returns:
        Output: train, or skip when there is nothing new.
        data_digest: Digest of the source's content.
        weights: Where the weights to start from lie; empty: from scratch.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("find_new_data"):
        from visionyard.models import get_plugin
        from visionyard.promotion.watermark import find_new_data as find

        takes_weights = not plugin or get_plugin(plugin).info.takes_weights
        found = find(source, store=store, model=model or run_name, is_warm=is_warm and takes_weights, weights=weights)
        events.figures(decision=found.decision, reason=found.reason)
    return found.decision, found.data_digest, found.weights
