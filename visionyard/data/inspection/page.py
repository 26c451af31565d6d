"""The inspection as one page that opens without network."""

from pathlib import Path
from typing import Any

from visionyard.atomic import write_atomic
from visionyard.data.inspection.examples import Address, Example, address_of, choose_examples
from visionyard.data.inspection.statistics import Extreme, Inspection
from visionyard.data.labelled import LabelledSet
from visionyard.pages import data_uris, render_page
from visionyard.pages.marks import class_colour

SCRIPTS = ("inspection.js",)
_BUDGET_BYTES = 4_000_000
_LISTED_PROBLEMS = 50


def write_inspection_page(target: Path, labelled: LabelledSet, inspection: Inspection) -> None:
    """Write the page; the images are gone through once for its pictures.

    Args:
        target: The file to write; replaced whole.
        labelled: The images.
        inspection: What was counted of them.
    """
    examples, extremes = choose_examples(labelled, inspection)
    # An image may be both.
    shown = {address_of(example.item): example.picture for example in (*examples, *extremes.values())}
    pictures = dict(zip(shown, data_uris(shown.values(), budget_bytes=_BUDGET_BYTES), strict=True))
    looks = inspection.looks
    content = {
        "title": f"{inspection.label.rstrip('/').rsplit('/', 1)[-1]}: inspection",
        "inspection": inspection.to_json(),
        "colours": ["#{:02x}{:02x}{:02x}".format(*class_colour(number)) for number in range(len(inspection.classes))],
        "examples": [_card(example, pictures) for example in examples],
        "extremes": {
            name: [_extreme(one, pictures) for one in found if address_of(one) in extremes]
            for name, found in (
                ("darkest", looks.darkest),
                ("brightest", looks.brightest),
                ("blurriest", looks.blurriest),
            )
        },
        "problems": _problems(labelled),
    }
    write_atomic(target, render_page(content, package=__package__, scripts=SCRIPTS))


def _card(example: Example, pictures: dict[Address, str]) -> dict[str, Any]:
    item = example.item
    return {
        "picture": pictures[address_of(item)],
        "source": item.source,
        "split": item.published_split,
        "width": item.width,
        "height": item.height,
        "timestamp_s": item.timestamp_s,
        "box_count": None if item.boxes is None else len(item.boxes),
        "class_name": item.class_name,
        "is_labelled": example.is_labelled,
    }


def _extreme(extreme: Extreme, pictures: dict[Address, str]) -> dict[str, Any]:
    return {**extreme.to_json(), "picture": pictures[address_of(extreme)]}


def _problems(labelled: LabelledSet) -> list[dict[str, Any]]:
    """Return the problems by code, the most frequent first, with the first of each."""
    by_code: dict[str, list[dict[str, str]]] = {}
    counts: dict[str, int] = {}
    for problem in labelled.problems:
        counts[problem.code] = counts.get(problem.code, 0) + 1
        listed = by_code.setdefault(problem.code, [])
        if len(listed) < _LISTED_PROBLEMS:
            listed.append({"file": problem.file, "item": problem.item, "message": problem.message})
    order = sorted(counts, key=lambda code: (-counts[code], code))
    return [{"code": code, "count": counts[code], "listed": by_code[code]} for code in order]
