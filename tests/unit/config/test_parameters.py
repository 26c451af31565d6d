"""A run config and its flat pipeline parameters are two forms of the same."""

import json

from visionyard.config import (
    RunConfig,
    TrainingConfig,
    field_names,
    from_parameters,
    parameter_name,
    parse_run_config,
    section_parameters,
    to_parameters,
)

# Another value than the default for every kind of field.
VALUES = {
    "name": "nightly",
    "data": {"source": "s3://bucket/clips", "classes": ["a", "b"], "val_fraction": 0.3, "allow_leak": True},
    "model": {"name": "yolo-detection", "options": {"mosaic": 0.5, "nested": {"deep": [1, 2]}}},
    "training": {"epochs": 3, "learning_rate": 0.01, "mixed_precision": "bf16"},
    "export": {"formats": ["onnx"]},
    "benchmark": {"batch_sizes": [4], "threads": [2]},
}


def test_round_trip() -> None:
    config = parse_run_config(VALUES)
    assert parse_run_config(from_parameters(to_parameters(config))) == config


def test_round_trip_through_json_with_whole_numbers_as_floats() -> None:
    """KFP hands numbers inside lists on as floats."""
    config = parse_run_config(VALUES)
    parameters = json.loads(json.dumps(to_parameters(config)))
    parameters["benchmark_batch_sizes"] = [4.0]
    assert parse_run_config(from_parameters(parameters)) == config


def test_each_field_is_one_parameter_of_a_name_that_no_other_has() -> None:
    names = [parameter_name(dotted) for dotted in field_names(RunConfig)]
    assert len(set(names)) == len(names)
    assert list(to_parameters(parse_run_config(VALUES))) == names
    assert all(name.isidentifier() for name in names)


def test_the_name_of_the_run_does_not_look_like_the_name_of_the_model() -> None:
    assert parameter_name("name") == "run_name"
    assert parameter_name("model.name") == "model_name"


def test_section_parameters_cover_the_section() -> None:
    parameters = section_parameters("training", TrainingConfig)
    assert parameters["epochs"] == "training_epochs"
    assert set(parameters) == set(TrainingConfig.model_fields)


def test_parameters_that_are_no_settings_are_left_out() -> None:
    assert from_parameters({"training_epochs": 3, "code_digest": "abc"}) == {"training": {"epochs": 3}}
    assert from_parameters({}) == {}
