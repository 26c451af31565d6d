"""Join what belongs together.

Source: B. Galler, M. Fischer, An Improved Equivalence Algorithm, CACM 1964; paths are halved as in R. Tarjan, J. van
Leeuwen, Worst-case Analysis of Set Union Algorithms, JACM 1984.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

Member = TypeVar("Member", bound=Any)


def join_groups(pairs: Iterable[tuple[Member, Member]]) -> dict[Member, Member]:
    """Join groups that must stay together.

    Args:
        pairs: Two groups that share something.

    Returns:
        From each group named to the first, by order, of those joined with it, itself included.
    """
    parent: dict[Member, Member] = {}

    def root(group: Member) -> Member:
        while parent.setdefault(group, group) != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return {group: root(group) for group in list(parent)}
