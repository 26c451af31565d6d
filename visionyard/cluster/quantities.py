"""Amounts as Kubernetes writes them: `500m` of a core, `8Gi` of memory."""

import re

_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|Pi|K|M|G|T|P)?")
_CPU = re.compile(r"[0-9]+m|[0-9]+(?:\.[0-9]+)?")
_POWERS = "KMGTP"
MEBIBYTE = 1 << 20


def parse_cpu(text: str) -> float:
    """Return the cores that `2`, `0.5` or `500m` names.

    Raises:
        ValueError: It is neither.
    """
    if not _CPU.fullmatch(text):
        raise ValueError(f"{text!r} is no amount of CPU; expected cores or thousandths of one, such as 2 or 500m")
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def parse_memory(text: str) -> int:
    """Return the bytes that `512Mi`, `8Gi` or `1G` names.

    Raises:
        ValueError: It is no such amount.
    """
    found = _MEMORY.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no amount of memory; expected a number and a unit, such as 512Mi or 8Gi")
    number, unit = found.groups()
    if not unit:
        return int(float(number))
    base = 1024 if unit.endswith("i") else 1000
    return int(float(number) * base ** (_POWERS.index(unit[0]) + 1))


def format_mebibytes(size_bytes: int) -> str:
    """Return a size as whole mebibytes, rounded up: `1536Mi`."""
    return f"{-(-size_bytes // MEBIBYTE)}Mi"
