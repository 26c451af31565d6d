"""The pipeline retrain."""

import inspect
from typing import Any

from kfp import dsl

from visionyard.cluster.profiles import settle
from visionyard.components.find_new_data import find_new_data
from visionyard.components.notify_end import notify_end
from visionyard.pipelines.train_model import train_model

_TRAINING = inspect.signature(train_model.pipeline_func)
# A task in a condition finds no parameter that only platform settings use, so the profile's amounts are compiled in.
_COMPILED_IN = {name: "" for name in _TRAINING.parameters if name.startswith("resources_")}
# What find_new_data says.
_FOUND = ("data_digest",)
_OWN = (
    inspect.Parameter("retrain_warm_start", inspect.Parameter.KEYWORD_ONLY, default=True, annotation=bool),
    inspect.Parameter("notify_when", inspect.Parameter.KEYWORD_ONLY, default="failure", annotation=str),
)
_DOC = """New data since the last time: a challenger is trained from the champion and takes its place when it is better.

    Where nothing is new, everything else is skipped.

    Args:
        retrain_warm_start: Start from the champion's weights, when there is a champion and the model can.
        notify_when: always, or failure to keep quiet about a run that is done.
"""


def _retrain(*channels: Any) -> None:
    values = dict(zip(_parameters(), channels, strict=True))
    is_warm, when = (values.pop(one.name) for one in _OWN)
    # No stage that the cache may answer for; when find_new_data skips the rest, the rest is not expected.
    expected = ["find_new_data", "promote_model"]
    told = notify_end(run_name=values["run_name"], expected_stages=expected, when=when)
    told.set_caching_options(False)
    with dsl.ExitHandler(told, name="told"):
        found = find_new_data(
            source=values["data_source"],
            store=values["promotion_store"],
            run_name=values["run_name"],
            model=values["promotion_model"],
            weights=values["model_weights"],
            plugin=values["model_name"],
            is_warm=is_warm,
            software_digest=values["software_digest"],
        )
        # What the source, the store and the registry hold is no part of KFP's cache key.
        found.set_caching_options(False)
        with dsl.If(found.outputs["Output"] == "train", name="new data"):
            new = {"data_digest": found.outputs["data_digest"], "model_weights": found.outputs["weights"]}
            train_model.pipeline_func(**{**values, **new, **_COMPILED_IN})
    settle(found, "find_new_data")
    settle(told, "notify_end")


def _parameters() -> dict[str, inspect.Parameter]:
    """Return train_model's parameters, less those that are found or compiled in, and the pipeline's own."""
    left_out = {*_FOUND, *_COMPILED_IN}
    taken = {name: one for name, one in _TRAINING.parameters.items() if name not in left_out}
    return taken | {one.name: one.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in _OWN}


def _docstring() -> str:
    """Return the text above with the descriptions of train_model's parameters in it: the run form shows them."""
    inputs = train_model.component_spec.inputs
    texts = {name: " ".join(inputs[name].description.split()) for name in _parameters() if name in inputs}
    lines = [f"        {name}: {text}" for name, text in texts.items()]
    return _DOC.replace("    Args:\n", "\n".join(["    Args:", *lines, ""]))


# KFP reads a pipeline's parameters from the signature; written out, train_model's seventy would stand here once more.
_retrain.__signature__ = inspect.Signature([*_parameters().values()], return_annotation=None)  # type: ignore[attr-defined]
_retrain.__doc__ = _docstring()
retrain = dsl.pipeline(name="visionyard-retrain")(_retrain)
