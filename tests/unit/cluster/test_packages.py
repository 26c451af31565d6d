"""Compiled pipelines: read, held against parameters, and changed before they are sent."""

import copy
from pathlib import Path
from typing import Any

import pytest

from visionyard.cluster.packages import Package, read_package
from visionyard.errors import ConfigError

SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "p"},
    "root": {
        "dag": {
            "tasks": {
                "ingest": {
                    "cachingOptions": {"enableCache": True},
                    "inputs": {"parameters": {"data_digest": {"componentInputParameter": "data_digest"}}},
                },
                "again": {
                    "cachingOptions": {"enableCache": True},
                    "inputs": {
                        "parameters": {
                            "data_digest": {
                                "taskOutputParameter": {"producerTask": "find", "outputParameterKey": "digest"}
                            }
                        }
                    },
                },
                "train": {"cachingOptions": {"enableCache": True}, "inputs": {"parameters": {"epochs": {}}}},
            }
        },
        "inputDefinitions": {
            "parameters": {
                "source": {"parameterType": "STRING"},
                "epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3.0, "isOptional": True},
                "flag": {"parameterType": "BOOLEAN", "isOptional": True},
                "names": {"parameterType": "LIST", "isOptional": True},
                "options": {"parameterType": "STRUCT", "isOptional": True},
            }
        },
    },
}


def test_right_parameters_pass():
    Package(SPEC, {}).check({"source": "x", "epochs": 3, "flag": True, "names": ["a"], "options": {"a": 1}})


def test_all_wrong_parameters_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        Package(SPEC, {}).check({"epochs": True, "flag": "yes", "names": "a", "options": [], "typo": 1})
    assert caught.value.problems == [
        "epochs = True: expected a whole number",
        "flag = 'yes': expected true or false",
        "names = 'a': expected a list",
        "options = []: expected keys and values",
        "source: missing; the pipeline p has no default for it",
        "typo: the pipeline p has no such parameter",
    ]


def test_only_the_task_that_reads_the_source_is_never_taken_from_the_cache():
    changed = Package(SPEC, {}).without_cached_source()
    tasks = changed.spec["root"]["dag"]["tasks"]
    assert tasks["ingest"]["cachingOptions"] == {}
    assert tasks["again"]["cachingOptions"] == tasks["train"]["cachingOptions"] == {"enableCache": True}
    assert SPEC["root"]["dag"]["tasks"]["ingest"]["cachingOptions"] == {"enableCache": True}


def test_so_is_a_task_that_reads_another_input_whose_content_is_not_known():
    spec = copy.deepcopy(SPEC)
    tasks = spec["root"]["dag"]["tasks"]
    handed_on = {"componentInputParameter": "pipelinechannel--data_split_file_digest"}
    tasks["prepare"] = {
        "cachingOptions": {"enableCache": True},
        "inputs": {"parameters": {"split_file_digest": handed_on}},
    }
    # A condition hands values on under the name of their channel; it is no task of its own.
    tasks["condition"] = {
        "cachingOptions": {"enableCache": True},
        "inputs": {"parameters": {"pipelinechannel--data_split_file_digest": handed_on}},
    }
    changed = Package(spec, {}).without_cached_source(["data_split_file_digest"]).spec["root"]["dag"]["tasks"]
    assert [name for name, task in changed.items() if task["cachingOptions"] == {}] == ["prepare"]


@pytest.mark.parametrize(
    ("text", "match"),
    [("a: [", "cannot be read as YAML"), ("a: 1", "not a compiled pipeline; `visionyard compile` makes one")],
    ids=["no YAML", "something else"],
)
def test_a_file_that_is_no_pipeline_is_refused(text: str, match: str, tmp_path: Path):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ConfigError, match=match):
        read_package(tmp_path / "p.yaml")
