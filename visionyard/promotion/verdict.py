"""The verdict as it is written: `verdict.json` for programs, `verdict.md` for people.

verdict.json: `schema_version`, `artifact` "verdict", `verdict` (`promote` or `reject`), `is_pending` (only a person's
approval is missing), `reasons`, `task`, `metric` (`name`, `champion`, `challenger`, `difference`, `low`, `high`),
`champion` (`model`, `version`, `bundle_digest`; null without one), `challenger` (`bundle_digest`, `version`),
`per_class` (one object a class), `statistics`, `approval` (null, or who, when, comment), `dataset_digest`.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionyard.atomic import atomic_folder
from visionyard.data.artifacts import read_manifest, write_manifest
from visionyard.promotion.approval import Approval
from visionyard.promotion.judge import ClassChange, Judgement

VERDICT = "verdict.json"
PAGE = "verdict.md"


@dataclass(frozen=True)
class Decision:
    """What a promotion ended with.

    Attributes:
        judgement: What the judge said, with what came after: approval, a race that was lost.
        is_pending: Only a person's approval is missing.
        task: What the models do.
        model: Name of the registered model; empty without a registry.
        champion_version: The version it was judged against; 0 for none.
        champion_digest: Its bundle; empty for none.
        challenger_digest: The new model's bundle.
        approval: A person's; None where none was asked for or given.
        dataset_digest: Of the dataset version whose test split judged both.
    """

    judgement: Judgement
    is_pending: bool
    task: str
    model: str
    champion_version: int
    champion_digest: str
    challenger_digest: str
    approval: Approval | None
    dataset_digest: str

    @property
    def change(self) -> str:
        """What becomes of the main metric, in a few words."""
        found = self.judgement
        name, after = found.metric_name.replace("_", " "), f"{found.challenger:.4f}"
        return f"{name} {after}" if found.champion is None else f"{name} {found.champion:.4f} -> {after}"

    def to_json(self) -> dict[str, Any]:
        """Return the values of `verdict.json`."""
        found = self.judgement
        after = found.challenger if math.isfinite(found.challenger) else None
        return {
            "verdict": found.verdict,
            "is_pending": self.is_pending,
            "reasons": found.reasons,
            "task": self.task,
            "metric": {
                "name": found.metric_name,
                "champion": found.champion,
                "challenger": after,
                "difference": after - found.champion if after is not None and found.champion is not None else None,
                "low": found.low,
                "high": found.high,
            },
            "champion": {
                "model": self.model,
                "version": self.champion_version,
                "bundle_digest": self.champion_digest,
            }
            if self.champion_version
            else None,
            "challenger": {"bundle_digest": self.challenger_digest},
            "per_class": [asdict(one) for one in found.classes],
            "statistics": found.statistics,
            "approval": asdict(self.approval) if self.approval else None,
            "dataset_digest": self.dataset_digest,
        }


def write_verdict(decision: Decision, target: Path) -> None:
    """Write the verdict's folder; it appears whole or not at all."""
    with atomic_folder(target) as folder:
        write_manifest(folder, "verdict", decision.to_json(), name=VERDICT)
        (folder / PAGE).write_text(verdict_page(decision), encoding="utf-8")


def read_verdict(folder: Path) -> dict[str, Any]:
    """Return `verdict.json`.

    Raises:
        ArtifactError: It is missing, not JSON or of an unknown version.
    """
    return read_manifest(folder, "verdict", name=VERDICT)


def verdict_page(decision: Decision) -> str:
    """Return the verdict as Markdown."""
    found = decision.judgement
    lines = [f"# Verdict: {found.verdict}", "", *(f"- {reason}" for reason in found.reasons), ""]
    lines += ["| | champion | new model |", "| --- | ---: | ---: |"]
    version = f"version {decision.champion_version}" if decision.champion_version else "none"
    lines.append(f"| bundle | {version} | {decision.challenger_digest[:12]} |")
    lines.append(f"| {found.metric_name} | {_text(found.champion)} | {_text(found.challenger)} |")
    if found.classes:
        measure = found.statistics.get("class_metric", "")
        lines += ["", f"| class | {measure}, champion | new model | change in 90 % of the draws | |"]
        lines += ["| --- | ---: | ---: | --- | --- |", *map(_class_row, found.classes)]
    if found.statistics:
        lines += ["", ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in found.statistics.items()) + "."]
    if decision.approval:
        comment = f": {decision.approval.comment}" if decision.approval.comment else ""
        lines += ["", f"Approved by {decision.approval.by} on {decision.approval.when}{comment}"]
    return "\n".join(lines) + "\n"


def _class_row(change: ClassChange) -> str:
    between = f"{change.low:+.4f} to {change.high:+.4f}" if change.low is not None and change.high is not None else ""
    mark = "over budget" if change.is_over_budget else ""
    name = change.name.replace("|", "\\|")
    return f"| {name} | {_text(change.champion)} | {_text(change.challenger)} | {between} | {mark} |"


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
