"""The suspects as one page that opens without network, with the places meant drawn, for a person to judge."""

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from visionyard.atomic import write_atomic
from visionyard.data.dataset import Dataset, Sample
from visionyard.data.items import SPLITS
from visionyard.data.quality.suspects import KINDS, Mark, Suspect, SuspectReport
from visionyard.errors import DataError
from visionyard.pages import data_uris, render_page
from visionyard.pages.marks import draw_box, draw_caption

SCRIPTS = ("suspects.js",)
_BUDGET_BYTES = 12_000_000
# About as large as a card shows it, so that the letters can be read.
_SIDE_PX = 320
# Of a kind so many are drawn; a person who finds all of these wrong wants a list, which --json gives.
_DRAWN_OF_A_KIND = 36
# Around a mark so much is shown: the mark fills a third of the picture, so that one sees what lies beside it.
_CONTEXT = 3.0
_MIN_CROP_PX = 160.0
_HALO_PX = 5


def write_suspects_page(target: Path, dataset: Dataset, report: SuspectReport) -> None:
    """Write the page.

    Args:
        target: The file to write; replaced whole.
        dataset: The version that the suspects are of.
        report: What was found.
    """
    by_kind = report.by_kind()
    drawn = [one for found in by_kind.values() for one in found[:_DRAWN_OF_A_KIND]]
    wanted = {key for one in drawn for key in (one.key, one.other_key) if key}
    # Where labels and images are looked up: keys are unique in a version.
    samples = {one.key: one for split in SPLITS for one in dataset.samples(split) if one.key in wanted}
    shown = [(one, key) for one in drawn for key in (one.key, one.other_key) if key]
    uris = iter(data_uris((_picture(dataset, samples[key], one) for one, key in shown), budget_bytes=_BUDGET_BYTES))
    cards = {id(one): [next(uris) for key in (one.key, one.other_key) if key] for one in drawn}
    content = {
        "title": f"{'/'.join(dataset.folder.absolute().parts[-2:])}: suspects",
        "label": report.label,
        "task": report.task,
        "item_count": report.item_count,
        "suspect_count": len(report.suspects),
        "kinds": [
            {
                "kind": kind,
                "told": KINDS[kind],
                "count": len(found),
                "listed": [_card(one, cards[id(one)]) for one in found[:_DRAWN_OF_A_KIND]],
            }
            for kind, found in by_kind.items()
        ],
        "balance": [one.to_json() for one in report.balance],
        "shifts": [one.to_json() for one in report.shifts],
        "notes": list(report.notes),
    }
    write_atomic(target, render_page(content, package=__package__, scripts=SCRIPTS))


def _card(suspect: Suspect, pictures: list[str]) -> dict[str, Any]:
    names = ("source", "other_source", "split", "message")
    return {**{name: getattr(suspect, name) for name in names}, "pictures": pictures}


def _picture(dataset: Dataset, sample: Sample, suspect: Suspect) -> Image.Image:
    """Return the part of an image around the marks, with the true boxes thin and the marks named."""
    try:
        image = Image.fromarray(dataset.image(sample))
    except DataError:
        return Image.new("RGB", (_SIDE_PX // 2, _SIDE_PX // 2), (90, 90, 90))  # dataset check tells why
    left, top, right, bottom = crop = _crop(suspect.marks, image.size)
    # Drawn at the size shown, so that lines and letters are equally thick on a large picture and a small part.
    scale = _SIDE_PX / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    picture = image.resize(size, Image.Resampling.BICUBIC, box=crop)
    draw = ImageDraw.Draw(picture)

    def placed(xyxy: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = xyxy
        return ((x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale)

    meant = {tuple(round(value) for value in mark.xyxy) for mark in suspect.marks}
    for xyxy, class_id in zip(sample.xyxy.tolist(), sample.class_ids.tolist(), strict=False):
        if tuple(round(value) for value in xyxy) not in meant:
            draw_box(draw, placed(xyxy), "", class_id)
    for mark in suspect.marks:
        # A white frame tells what is meant from the boxes around it, which may be of the same class.
        draw.rectangle(placed(mark.xyxy), outline=(255, 255, 255), width=_HALO_PX)
        draw_box(draw, placed(mark.xyxy), mark.text, mark.class_id)
    if dataset.task == "classification":
        class_id = int(sample.class_ids[0])
        draw_caption(draw, dataset.classes[class_id], class_id)
    return picture


def _crop(marks: tuple[Mark, ...], size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return what to show: a square around the first mark, moved into the image; all of it without marks."""
    width, height = size_wh
    if not marks:
        return 0.0, 0.0, float(width), float(height)
    left, top, right, bottom = marks[0].xyxy
    side = max(_CONTEXT * max(right - left, bottom - top), _MIN_CROP_PX)
    wide, high = min(side, width), min(side, height)
    x = min(max(0.0, (left + right - wide) / 2), width - wide)
    y = min(max(0.0, (top + bottom - high) / 2), height - high)
    return x, y, x + wide, y + high
