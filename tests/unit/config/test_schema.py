"""The published JSON Schema says what the config model accepts."""

import json

from visionyard.config import DataConfig, RunConfig, field_names
from visionyard.config.loading import field_of
from visionyard.config.schema import describe_range, run_config_schema


def test_every_key_is_described() -> None:
    schema = json.loads(json.dumps(run_config_schema()))
    for dotted in field_names(RunConfig):
        place = schema
        for part in dotted.split("."):
            place = schema["$defs"][place["$ref"].rsplit("/", 1)[-1]] if "$ref" in place else place
            place = place["properties"][part]
        assert place["description"], dotted


def test_objects_are_closed_and_the_source_is_required() -> None:
    schema = run_config_schema()
    assert schema["additionalProperties"] is False
    assert all(section["additionalProperties"] is False for section in schema["$defs"].values())
    assert schema["required"] == ["data"]
    assert schema["$defs"]["DataConfig"]["required"] == ["source"]


def test_ranges_and_choices_are_in_it() -> None:
    sections = run_config_schema()["$defs"]
    assert sections["FramesConfig"]["properties"]["rate_hz"]["exclusiveMinimum"] == 0
    assert sections["TrainingConfig"]["properties"]["mixed_precision"]["enum"] == ["no", "fp16", "bf16"]


def test_a_field_without_limits_has_no_range() -> None:
    assert describe_range(field_of(RunConfig, "model.options")) == ""
    assert describe_range(DataConfig.model_fields["source"]) == ""
