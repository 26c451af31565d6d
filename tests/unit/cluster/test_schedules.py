"""Schedules: read, applied, applied again, pruned, watched for freshness."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures.kfp_stub import KfpStub
from visionyard.cluster.kfp_api import KfpApi, Server
from visionyard.cluster.schedules import (
    Schedule,
    ScheduleFile,
    apply_schedules,
    declared,
    declared_schedules,
    delete_schedules,
    is_stale,
    last_success,
    load_schedules,
)
from visionyard.errors import ConfigError, VisionyardError

SPEC = {
    "pipelineInfo": {"name": "p"},
    "root": {"inputDefinitions": {"parameters": {"epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1}}}},
}


def _request(schedule: Schedule) -> dict[str, Any]:
    config = {"parameters": {"epochs": 3}}
    return {"pipeline_spec": SPEC, "runtime_config": config, "service_account": "visionyard-pipeline"}


def _file(*names: str, **values: Any) -> ScheduleFile:
    content = {"config": "run.yaml", "cron": "30 2 * * 7", "owner": "vision", **values}
    return ScheduleFile.model_validate({"schedules": [{"name": name, **content} for name in names]})


@pytest.fixture
def api(stub: KfpStub) -> KfpApi:
    return KfpApi(Server(stub.host))


def test_what_is_sent_starts_one_run_at_a_time_and_never_catches_up(api: KfpApi, stub: KfpStub):
    apply_schedules(api, _file("nightly", freshness_hours=36), _request)
    sent = next(iter(stub.schedules.values()))
    assert sent["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * 0"}}
    assert (sent["max_concurrency"], sent["no_catchup"], sent["mode"]) == ("1", True, "ENABLE")
    assert sent["service_account"] == "visionyard-pipeline"
    assert stub.experiments[sent["experiment_id"]]["display_name"] == "nightly"
    assert sent["description"].startswith("Owner: vision\n")
    found = declared(sent)
    assert found is not None
    assert (found.name, found.owner, found.freshness_hours) == ("nightly", "vision", 36)


def test_a_hundred_applied_twice_leave_a_hundred_and_change_nothing(api: KfpApi, stub: KfpStub):
    file = _file(*(f"camera-{number}" for number in range(100)))
    first = apply_schedules(api, file, _request)
    assert (len(first.created), len(stub.schedules)) == (100, 100)
    stub.requests.clear()
    second = apply_schedules(api, file, _request)
    assert (len(second.unchanged), second.created, second.replaced) == (100, [], [])
    assert len(stub.schedules) == 100
    assert stub.changes() == []


@pytest.mark.parametrize(
    "change",
    [{"cron": "0 3 * * *"}, {"owner": "others"}, {"enabled": False}, {"freshness_hours": 1}],
    ids=["another time", "another owner", "switched off", "another freshness"],
)
def test_a_changed_schedule_is_replaced_and_its_neighbour_is_not(change: dict[str, Any], api: KfpApi, stub: KfpStub):
    apply_schedules(api, _file("a", "b"), _request)
    before = {one["display_name"]: one["recurring_run_id"] for one in stub.schedules.values()}
    changed = _file("a", "b").schedules[0].model_copy(update=change)
    changes = apply_schedules(api, ScheduleFile(schedules=[changed, _file("b").schedules[0]]), _request)
    after = {one["display_name"]: one["recurring_run_id"] for one in stub.schedules.values()}
    assert (changes.replaced, changes.unchanged) == (["a"], ["b"])
    assert (after["a"] != before["a"], after["b"] == before["b"], len(stub.schedules)) == (True, True, 2)


def test_a_schedule_switched_off_starts_nothing(api: KfpApi, stub: KfpStub):
    apply_schedules(api, _file("a", enabled=False), _request)
    assert [one["mode"] for one in stub.schedules.values()] == ["DISABLE"]
    assert not declared_schedules(api)[0].is_enabled


def test_a_failure_while_replacing_leaves_the_old_one(api: KfpApi, stub: KfpStub):
    apply_schedules(api, _file("a"), _request)
    broken = _file("a", cron="0 4 * * *")
    with pytest.raises(VisionyardError, match="epochs requires type NUMBER_INTEGER"):
        apply_schedules(
            api, broken, lambda one: {**_request(one), "runtime_config": {"parameters": {"epochs": "three"}}}
        )
    assert [one["trigger"]["cron_schedule"]["cron"] for one in stub.schedules.values()] == ["0 30 2 * * 0"]


def test_what_an_interrupted_apply_left_twice_is_made_one(api: KfpApi, stub: KfpStub):
    apply_schedules(api, _file("a"), _request)
    only = next(iter(stub.schedules.values()))
    stub.schedules["twin"] = {**only, "recurring_run_id": "twin"}
    assert apply_schedules(api, _file("a"), _request).unchanged == ["a"]
    assert len(stub.schedules) == 1


def test_runs_of_a_schedule_that_is_replaced_or_deleted_go_on(api: KfpApi, stub: KfpStub):
    apply_schedules(api, _file("a"), _request)
    old = next(iter(stub.schedules))
    stub.runs["r"] = {"run_id": "r", "recurring_run_id": old, "state": "RUNNING"}
    apply_schedules(api, _file("a", cron="0 4 * * *"), _request)
    delete_schedules(api, ["a"])
    assert stub.schedules == {}
    assert list(stub.runs) == ["r"]


def test_only_pruning_removes_and_only_what_is_ours_and_of_the_group(api: KfpApi, stub: KfpStub):
    apply_schedules(api, _file("a", "b"), _request)
    apply_schedules(api, ScheduleFile(group="others", schedules=_file("c").schedules), _request)
    foreign = {
        **next(iter(stub.schedules.values())),
        "recurring_run_id": "x",
        "display_name": "x",
        "description": "hand",
    }
    stub.schedules["x"] = foreign
    assert apply_schedules(api, _file("a"), _request).left_over == ["b"]
    assert len(stub.schedules) == 4
    assert apply_schedules(api, _file("a"), _request, is_pruning=True).removed == ["b"]
    assert sorted(one["display_name"] for one in stub.schedules.values()) == ["a", "c", "x"]


def test_a_description_edited_by_hand_is_none_of_ours(stub: KfpStub):
    assert declared({"description": "visionyard-schedule: {broken", "recurring_run_id": "1"}) is None
    assert declared({"description": "visionyard-schedule: " + json.dumps({"group": "g"})}) is None


def test_deletion_by_name(api: KfpApi, stub: KfpStub):
    apply_schedules(api, _file("a", "b"), _request)
    with pytest.raises(ConfigError, match="z: no such schedule; known: a, b"):
        delete_schedules(api, ["a", "z"])
    assert len(stub.schedules) == 2
    assert delete_schedules(api, ["a"]) == ["a"]
    assert [one.name for one in declared_schedules(api)] == ["b"]


@pytest.mark.parametrize(
    ("hours", "enabled", "succeeded_at", "expected"),
    [
        (24, True, "2020-01-09T12:00:01Z", False),
        (24, True, "2020-01-09T11:59:59Z", True),
        (24, True, "", True),
        (300, True, "", False),
        (0, True, "", False),
        (24, False, "", False),
    ],
    ids=["just fresh", "just stale", "never since it was made", "made lately", "not watched", "switched off"],
)
def test_a_schedule_is_stale_when_it_had_no_success_for_too_long(
    hours: float, enabled: bool, succeeded_at: str, expected: bool, api: KfpApi, stub: KfpStub
):
    apply_schedules(api, _file("a", freshness_hours=hours, enabled=enabled), _request)
    one = declared_schedules(api)[0]
    assert is_stale(one, succeeded_at, datetime(2020, 1, 10, 12, tzinfo=UTC)) is expected


def test_the_last_success_is_that_of_its_own_runs(api: KfpApi, stub: KfpStub):
    apply_schedules(api, _file("a", "b"), _request)
    a, b = declared_schedules(api)
    for number, (where, state) in enumerate([(a, "SUCCEEDED"), (a, "SUCCEEDED"), (a, "FAILED"), (b, "SUCCEEDED")]):
        stub.runs[str(number)] = {
            "run_id": str(number),
            "experiment_id": where.experiment_id,
            "state": state,
            "created_at": f"2026-11-0{number + 1}T00:00:00Z",
            "finished_at": f"2026-11-0{number + 1}T01:00:00Z",
        }
    assert last_success(api, a) == "2026-11-02T01:00:00Z"


GOOD = {"name": "a", "config": "run.yaml", "cron": "0 2 * * *", "owner": "vision"}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"schedules": [GOOD, GOOD]}, "a: named twice"),
        ({"schedules": [{**GOOD, "cron": "0 0 2 * * *"}]}, r"schedules\.0\.cron = '0 0 2 \* \* \*': expected five"),
        ({"schedules": [{**GOOD, "name": "A b"}]}, r"schedules\.0\.name"),
        ({"schedules": [{**GOOD, "ownr": "x"}]}, r"schedules\.0\.ownr: unknown key"),
        ({"schedules": [{"name": "a"}]}, r"schedules\.0\.owner: missing"),
        ({}, "schedules: missing"),
        ([], "expected `schedules:`"),
    ],
    ids=["two of one name", "six fields", "a name with a space", "a typo", "no owner", "no schedules", "a list"],
)
def test_a_wrong_file_is_refused(content: Any, match: str, tmp_path: Path):
    path = tmp_path / "schedules.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=match):
        load_schedules(path)
