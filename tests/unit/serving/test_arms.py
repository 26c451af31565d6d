"""Arms: shares within statistical bounds, ids that stay where they are, headers that win."""

import math
import random
from collections import Counter

import pytest

from visionyard.config.serving_config import ArmsConfig
from visionyard.errors import ConfigError, RequestError
from visionyard.serving.arms import choose_arm

IDS = [f"client-{number}" for number in range(20_000)]


def split(**weights: float) -> ArmsConfig:
    return ArmsConfig(name="digits", weights=weights)


def arms_of_ids(config: ArmsConfig) -> dict[str, str]:
    return {client: choose_arm(config, {"X-Client-Id": client}) for client in IDS}


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param({"a": 1.0}, id="one"),
        pytest.param({"a": 0.5, "b": 0.5}, id="halves"),
        pytest.param({"a": 0.9, "b": 0.1}, id="canary"),
        pytest.param({"a": 0.7, "b": 0.2, "c": 0.1}, id="three"),
        pytest.param({"a": 0.0, "b": 0.99, "c": 0.01}, id="none and little"),
    ],
)
@pytest.mark.parametrize("by", ["hash", "draw"])
def test_shares_are_within_five_standard_errors(weights: dict[str, float], by: str) -> None:
    config, rng = split(**weights), random.Random(4)
    if by == "hash":
        counts = Counter(arms_of_ids(config).values())
    else:
        counts = Counter(choose_arm(config, {}, draw=rng.random) for _ in IDS)
    for arm, share in weights.items():
        allowed = 5 * math.sqrt(share * (1 - share) / len(IDS))
        assert abs(counts[arm] / len(IDS) - share) <= allowed, arm


def test_an_id_keeps_its_arm_whatever_the_order_of_the_arms_and_the_case_of_the_header() -> None:
    here = choose_arm(split(a=0.5, b=0.3, c=0.2), {"X-Client-Id": "camera 7"})
    assert here == choose_arm(split(c=0.2, b=0.3, a=0.5), {"x-client-id": "camera 7"})


def test_known_ids_stay_in_their_arms_across_versions() -> None:
    """Fixed by the hash: an update of the server moves no client."""
    config = split(champion=0.8, canary=0.2)
    chosen = [choose_arm(config, {"X-Client-Id": f"client-{number}"}) for number in range(12)]
    assert [number for number, arm in enumerate(chosen) if arm == "canary"] == [5]


def test_when_an_arm_grows_ids_move_to_it_only() -> None:
    before, after = arms_of_ids(split(a=0.6, b=0.3, c=0.1)), arms_of_ids(split(a=0.5, b=0.25, c=0.25))
    moves = Counter((before[client], after[client]) for client in IDS if before[client] != after[client])
    assert {target for _, target in moves} == {"c"}
    assert abs(sum(moves.values()) / len(IDS) - 0.15) < 0.015


def test_when_an_arm_goes_only_its_ids_move() -> None:
    before, after = arms_of_ids(split(a=0.6, b=0.3, c=0.1)), arms_of_ids(split(a=2 / 3, b=1 / 3))
    assert all(after[client] == arm for client, arm in before.items() if arm != "c")


def test_two_splits_do_not_send_the_same_ids_to_their_canaries() -> None:
    def canaries(name: str) -> set[str]:
        config = ArmsConfig(name=name, weights={"a": 0.9, "b": 0.1})
        return {client for client in IDS if choose_arm(config, {"X-Client-Id": client}) == "b"}

    assert len(canaries("digits") & canaries("people")) / len(IDS) < 0.02


@pytest.mark.parametrize("arm", ["a", "b"])
def test_the_header_picks_an_arm_even_one_without_a_share(arm: str) -> None:
    headers = {"x-arm": arm, "x-client-id": "someone"}
    assert choose_arm(split(a=1.0, b=0.0), headers) == arm


@pytest.mark.parametrize("drawn", [0.0, 0.999999999, 1.0], ids=["lowest", "highest", "rounded up"])
def test_a_draw_at_the_border_finds_an_arm_that_has_a_share(drawn: float) -> None:
    assert choose_arm(split(a=0.0, b=0.3, c=0.7, d=0.0), {}, draw=lambda: drawn) == ("b" if drawn == 0 else "c")


@pytest.mark.parametrize("asked", ["c", "A", "../a", "x" * 10_000, "\udcff"], ids=["c", "A", "path", "long", "bytes"])
def test_an_unknown_arm_is_refused_with_the_known_ones(asked: str) -> None:
    with pytest.raises(RequestError, match=r"X-Arm: no arm .* the arms are a, b") as caught:
        choose_arm(split(a=0.5, b=0.5), {"X-Arm": asked})
    assert len(str(caught.value)) < 150


def test_an_id_of_undecodable_bytes_has_an_arm() -> None:
    assert choose_arm(split(a=0.5, b=0.5), {"X-Client-Id": "\udcff\udcfe"}) in {"a", "b"}


def test_no_arms_are_refused() -> None:
    with pytest.raises(ConfigError, match="weights is empty"):
        choose_arm(ArmsConfig(), {})
