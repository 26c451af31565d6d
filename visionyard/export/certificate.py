"""The parity certificate as it is written: a row an image and format, the main metric, the verdict."""

from dataclasses import asdict, dataclass
from typing import Any

from visionyard.export.comparison import BOX_IOU, COMPARED_CONFIDENCE, RAW_BOX_COUNT, Comparison
from visionyard.export.tolerances import Tolerances
from visionyard.inference.bundle import FormatParity, ParitySummary

SCHEMA_VERSION = 1
_TABLE_ROWS = 12


@dataclass(frozen=True)
class Row:
    """One image in one format: what was compared, and every sentence of what differed; eight bits are not judged."""

    image: str
    kind: str
    comparison: Comparison
    problems: tuple[str, ...]
    is_judged: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        verdict = "differs" if self.problems else "same" if self.is_judged else "not judged"
        return {
            "image": self.image,
            "kind": self.kind,
            **asdict(self.comparison),
            "verdict": verdict,
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class FormatResult:
    """One format: a row an image, and the main metric on the whole test split (None when it cannot be computed)."""

    rows: tuple[Row, ...]
    metric: float | None
    problems: tuple[str, ...]

    @property
    def is_passed(self) -> bool:
        """Whether every image and the metric agree."""
        return not self.problems and not any(row.problems for row in self.rows)


@dataclass(frozen=True)
class Certificate:
    """The whole proof.

    Attributes:
        tolerances: As asked for.
        signal: How much the trained model says at most: its best score, or how far a probability moves between images.
        score_tolerance: The one applied: `tolerances.score`, or in proportion to the signal when that is weak.
        metric_name: Such as `map_50_95`.
        reference_metric: The trained model's; None when it cannot be computed.
        formats: By name.
        item: What people call one of the images: row, where they are of a table.
    """

    tolerances: Tolerances
    signal: float
    score_tolerance: float
    metric_name: str
    reference_metric: float | None
    formats: dict[str, FormatResult]
    item: str = "image"

    @property
    def is_passed(self) -> bool:
        """Whether every format agrees."""
        return all(result.is_passed for result in self.formats.values())

    @property
    def image_count(self) -> int:
        """Rows of each format."""
        return max((len(result.rows) for result in self.formats.values()), default=0)

    def metric_gap(self, result: FormatResult) -> float | None:
        """Return how far a format's metric is from the trained model's; None when there is none."""
        if result.metric is None or self.reference_metric is None:
            return None
        return abs(result.metric - self.reference_metric)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `parity.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "is_passed": self.is_passed,
            "tolerances": {**asdict(self.tolerances), "box_iou": BOX_IOU, "score_applied": self.score_tolerance},
            "compared_confidence": COMPARED_CONFIDENCE,
            "raw_box_count": RAW_BOX_COUNT,
            "signal": self.signal,
            "metric_name": self.metric_name,
            "reference_metric": self.reference_metric,
            "formats": {
                name: {
                    "is_passed": result.is_passed,
                    "tolerances": asdict(lossy) if (lossy := self.tolerances.lossy(name)) else None,
                    "metric": result.metric,
                    "metric_gap": self.metric_gap(result),
                    "problems": list(result.problems),
                    "rows": [row.to_json() for row in result.rows],
                }
                for name, result in self.formats.items()
            },
        }

    def summary(self) -> ParitySummary:
        """Return the certificate in short, for `model.json`."""
        return ParitySummary(
            is_passed=self.is_passed,
            image_count=self.image_count,
            metric_name=self.metric_name,
            reference_metric=self.reference_metric,
            score_tolerance=self.score_tolerance,
            metric_tolerance=self.tolerances.metric,
            formats={name: self._format_summary(name, result) for name, result in self.formats.items()},
        )

    def _format_summary(self, name: str, result: FormatResult) -> FormatParity:
        lossy = self.tolerances.lossy(name)
        comparisons = [row.comparison for row in result.rows]
        iou_gaps = [comparison.iou_gap for comparison in comparisons if comparison.iou_gap is not None]
        return FormatParity(
            is_passed=result.is_passed,
            compared_count=sum(comparison.compared for comparison in comparisons),
            max_score_gap=max((comparison.score_gap for comparison in comparisons), default=0.0),
            max_iou_gap=max(iou_gaps, default=None),
            metric=result.metric,
            metric_gap=self.metric_gap(result),
            score_tolerance=lossy.score if lossy else None,
            metric_tolerance=lossy.metric if lossy else None,
        )

    def text(self) -> str:
        """Return a table of what differed, for a message; a line when nothing did."""
        lines = []
        for name, result in self.formats.items():
            bad = [row for row in result.rows if row.problems]
            if result.is_passed:
                like = "as good as allowed" if self.tolerances.lossy(name) else "the same"
                lines.append(f"{name}: {like} on all {len(result.rows)} {self.item}s")
                continue
            if bad or not self.tolerances.lossy(name):
                lines.append(f"{name}: differs on {len(bad)} of {len(result.rows)} {self.item}s")
            else:
                lines.append(f"{name}: loses too much")
            lines += [f"  {problem}" for problem in result.problems]
            lines += _table(bad[:_TABLE_ROWS])
            if len(bad) > _TABLE_ROWS:
                lines.append(f"  ... and {len(bad) - _TABLE_ROWS} more")
        return "\n".join(lines)


def _table(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    cells = [("image", "kind", "same", "missing", "extra", "IoU gap", "score gap", "what differs")]
    for row in rows:
        found = row.comparison
        iou_gap = "-" if found.iou_gap is None else f"{found.iou_gap:.2g}"
        counts = (str(found.compared), str(found.missing), str(found.extra))
        cells.append((row.image, row.kind, *counts, iou_gap, f"{found.score_gap:.2g}", "; ".join(row.problems)))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells)
    return [f"  {'  '.join(line)}".rstrip() for line in padded]
