"""The JSON Schema of the run config, for editors and other programs, and the range of a field in words."""

from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from visionyard.config.run_config import RunConfig

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"


def run_config_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a run config; every key has its description, default and range."""
    return {"$schema": SCHEMA_ID, **RunConfig.model_json_schema()}


def describe_range(field: FieldInfo) -> str:
    """Return what values a field takes, in words: `above 0, at most 240`, `one of no, fp16, bf16`; empty when any."""
    choices = _choices(field.annotation)
    if choices:
        listed = ", ".join(choices)
        return f"any of {listed}" if get_origin(field.annotation) is list else f"one of {listed}"
    limits = {type(limit): limit for limit in field.metadata}
    if Ge in limits and Le in limits:
        return f"from {limits[Ge].ge} to {limits[Le].le}"
    words = []
    if Gt in limits:
        words.append(f"above {limits[Gt].gt}")
    if Ge in limits:
        words.append(f"{limits[Ge].ge} or more")
    if Lt in limits:
        words.append(f"below {limits[Lt].lt}")
    if Le in limits:
        words.append(f"at most {limits[Le].le}")
    if MinLen in limits and get_origin(field.annotation) is list:
        words.append(f"{limits[MinLen].min_length} or more entries")
    return ", ".join(words)


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if get_origin(annotation) is list:
        return _choices(get_args(annotation)[0])
    return []
