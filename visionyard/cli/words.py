"""How numbers read on a terminal."""

from typing import Any


def format_duration(seconds: float) -> str:
    """Return `0.4 s`, `12 s`, `3 m 05 s` or `1 h 02 m`."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"


def format_figure(value: Any) -> str:
    """Return a figure with at most four significant digits; texts as they are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.4g}"


def plural(unit: str) -> str:
    """Return a unit's plural: `clip` to `clips`, `batch` to `batches`."""
    return unit + ("es" if unit.endswith(("ch", "sh", "s", "x")) else "s")
