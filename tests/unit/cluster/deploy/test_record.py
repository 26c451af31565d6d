"""What is kept on a service, and which names fit."""

import pytest

from visionyard.cluster.deploy.kserve_manifests import NAME_PARTS
from visionyard.cluster.deploy.record import (
    CANARY,
    HISTORY,
    KEPT_COUNT,
    Served,
    canary_of,
    canary_text,
    check_name,
    history_of,
    history_text,
    with_newest,
)
from visionyard.errors import ConfigError

ONE, TWO = Served("1" * 64, "s3://b/1", "onnx"), Served("2" * 64, "s3://b/2", "torchscript")


@pytest.mark.parametrize(
    ("history", "newest", "after"),
    [
        pytest.param([], ONE, [ONE], id="first"),
        pytest.param([ONE], TWO, [TWO, ONE], id="another"),
        pytest.param([TWO, ONE], TWO, [TWO, ONE], id="the same again"),
        pytest.param([TWO, ONE], ONE, [ONE, TWO, ONE], id="one of before"),
    ],
)
def test_history_begins_with_what_serves(history: list[Served], newest: Served, after: list[Served]) -> None:
    found = with_newest(history, newest)
    assert found == after
    assert history_of({HISTORY: history_text(found)}) == after


def test_history_is_bounded() -> None:
    many = [Served(str(number), "s3://b", "onnx") for number in range(30)]
    assert history_of({HISTORY: history_text(many)}) == many[:KEPT_COUNT]


def test_nothing_is_kept_on_a_service_of_others() -> None:
    assert history_of({}) == []
    assert canary_of({}) is None
    assert canary_of({CANARY: canary_text(TWO)}) == TWO


def test_a_broken_note_is_named() -> None:
    with pytest.raises(ConfigError, match=r"annotation visionyard\.dev/deployed: not valid JSON"):
        history_of({HISTORY: "[{"})


@pytest.mark.parametrize(
    ("name", "namespace", "match"),
    [
        pytest.param("Digits", "vision", "'Digits': expected small letters", id="capital"),
        pytest.param("4digits", "vision", "a letter first", id="digit first"),
        pytest.param("d" * 41, "vision-platform", "at most 63 are allowed; make it 4 shorter", id="four too long"),
    ],
)
def test_a_name_that_does_not_fit(name: str, namespace: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_name(name, namespace, parts=NAME_PARTS)


def test_the_longest_name_that_fits() -> None:
    check_name("d" * 37, "vision-platform", parts=NAME_PARTS)
    assert len(f"{'d' * 37}-predictor-vision-platform") == 63
