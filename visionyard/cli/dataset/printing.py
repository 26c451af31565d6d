"""What several dataset commands print alike."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from visionyard.cli.words import plural

if TYPE_CHECKING:
    from visionyard.data.items import Problem

_SHOWN_OF_A_CODE = 3


def print_problems(console: Console, problems: "Iterable[Problem]", *, title: str) -> None:
    """Print problems by code, the most frequent first, with the first few of each; nothing when there are none."""
    by_code: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_code[problem.code].append(problem)
    if not by_code:
        return
    table = Table(title=f"\n{title}", title_justify="left", box=None, pad_edge=False)
    table.add_column("Problem", overflow="fold")
    table.add_column("Count", justify="right")
    table.add_column("Where and what", overflow="fold")
    for code, found in sorted(by_code.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        lines = [escape(str(problem)) for problem in found[:_SHOWN_OF_A_CODE]]
        lines += [f"... and {len(found) - _SHOWN_OF_A_CODE:,} more"] if len(found) > _SHOWN_OF_A_CODE else []
        table.add_row(code, f"{len(found):,}", "\n".join(lines))
    console.print(table)


def counted(count: int, unit: str) -> str:
    """Return a count with its unit: `1 image`, `2,000 images`."""
    return f"{count:,} {unit if count == 1 else plural(unit)}"


def columns(*headings: str, title: str) -> Table:
    """Return a table of these columns: the first one and one without a heading to the left, others to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        is_left = place == 0 or not heading
        table.add_column(heading, justify="left" if is_left else "right", overflow="fold", no_wrap=not is_left)
    return table
