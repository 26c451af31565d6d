"""A/B: which of several loaded models answers a request.

An arm is the name of a loaded model. A request that names an arm gets it; one with a client id always gets the same
arm; any other is drawn. Nothing is remembered, so every replica of a server gives a client the same arm.
"""

import hashlib
import math
import random
from collections.abc import Callable, Mapping

from visionyard.config.serving_config import ArmsConfig
from visionyard.errors import ConfigError, RequestError

_SHOWN_CHARACTERS = 64


def choose_arm(config: ArmsConfig, headers: Mapping[str, str], *, draw: Callable[[], float] = random.random) -> str:
    """Return the arm that answers a request.

    1. The header `config.header` names an arm: that one, also one with the share 0 (so that it can be tried by hand).
    2. The header `config.hash_header` has a value: by weighted rendezvous hashing. Each arm gets the score
       -share / ln(u), where u in (0, 1) is made of the SHA-256 of split, arm and value; the highest score wins.
       An arm's score depends on its own share only, so when an arm grows, ids move to it and none moves between two
       others; when an arm goes, only its ids move.
    3. Neither: drawn by the shares.

    Args:
        config: The split; its shares sum to 1.
        headers: The request's, or gRPC metadata; names are compared without case.
        draw: Gives a number in [0, 1).

    Raises:
        RequestError: The header names an arm that is not there; lists those that are.
        ConfigError: `config` has no arms.

    Source: D. Thaler, C. Ravishankar, Using name-based mappings to increase hit rates, 1998, DOI 10.1109/90.663936;
    shares: C. Schindelhauer, G. Schomaker, Weighted distributed hash tables, 2005, DOI 10.1145/1073970.1074008.
    """
    if not config.weights:
        raise ConfigError("arms.weights is empty; name at least one loaded model with its share")
    asked = _header(headers, config.header)
    if asked:
        if asked not in config.weights:
            known = ", ".join(sorted(config.weights))
            raise RequestError(f"{config.header}: no arm {asked[:_SHOWN_CHARACTERS]!r}; the arms are {known}")
        return asked
    value = _header(headers, config.hash_header)
    return _by_hash(config, value) if value else _by_draw(config, draw())


def _header(headers: Mapping[str, str], name: str) -> str:
    wanted = name.lower()
    return next((value for key, value in headers.items() if key.lower() == wanted), "") if name else ""


def _by_hash(config: ArmsConfig, value: str) -> str:
    # Sorted, so that the order in the file never decides between equal scores.
    return max(sorted(config.weights), key=lambda arm: _score(config.name, arm, value, config.weights[arm]))


def _score(split: str, arm: str, value: str, share: float) -> float:
    # surrogatepass: HTTP libraries hand over undecodable bytes as lone surrogates.
    text = "\0".join((split, arm, value)).encode("utf-8", "surrogatepass")
    drawn = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
    # Of the 64 bits a float keeps 53; +0.5 keeps the number inside (0, 1).
    return -share / math.log(((drawn >> 11) + 0.5) / 2**53)


def _by_draw(config: ArmsConfig, drawn: float) -> str:
    arms = [arm for arm in sorted(config.weights) if config.weights[arm] > 0]
    reached = 0.0
    for arm in arms:
        reached += config.weights[arm]
        if drawn < reached:
            return arm
    return arms[-1]
