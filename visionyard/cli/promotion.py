"""`visionyard approve` and `visionyard champion`: what a person decides about models."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from visionyard.errors import ConfigError

if TYPE_CHECKING:
    from visionyard.cli.run_folder import RunFolder

output = Console(highlight=False)
champion_app = typer.Typer(
    help="Show the champion of a registered model, its history, or set it.", no_args_is_help=True
)

ModelArgument = Annotated[str, typer.Argument(help="Name of the registered model.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder that holds all runs.", envvar="VISIONYARD_RUNS")]
ByOption = Annotated[str, typer.Option("--by", help="Who decides.")]
CommentOption = Annotated[str, typer.Option(help="Why.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(name="approve")(approve_command)
    app.add_typer(champion_app, name="champion")


def is_waiting(folder: "RunFolder") -> bool:
    """Return whether a run ended because only a person's approval is missing."""
    path = folder.path / "verdict" / "verdict.json"
    return path.exists() and bool(json.loads(path.read_text(encoding="utf-8"))["is_pending"])


def approve_command(
    target: Annotated[str, typer.Argument(help="A bundle's folder or digest, or a run: its folder or name.")],
    by: ByOption,
    comment: CommentOption = "",
    store: Annotated[str, typer.Option(help="As in promotion.store; empty: where local runs look.")] = "",
    runs: RunsOption = Path("runs"),
) -> None:
    """Approve a bundle, so that the next run may promote it where promotion.approval is required."""
    from visionyard.cli.run_folder import promotion_store
    from visionyard.promotion.approval import Approval, approve

    digest, named = _resolve(target, runs)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    address = approve(store or named or str(promotion_store(runs)), Approval(digest, by, when, comment))
    output.print(f"approved {digest[:12]}: {address}\nrun again to promote it", markup=False, soft_wrap=True)


@champion_app.command(name="show")
def show_command(model: ModelArgument, runs: RunsOption = Path("runs")) -> None:
    """Show the champion: its version, metric, bundle, and why it was promoted."""
    champion = _registry(model, runs).state().champion
    if champion is None:
        raise ConfigError(f"{model}: there is no champion yet; a run whose verdict is promote makes one")
    output.print(f"{model} version {champion.number}, {_time(champion.created_ms)}", markup=False)
    for name in ("metric", "bundle_digest", "dataset_digest", "judged_against", "restores", "approved_by", "run"):
        if value := champion.tags.get(f"visionyard.{name}", ""):
            output.print(f"  {name.replace('_', ' ')}: {value}", markup=False, soft_wrap=True)
    for reason in json.loads(champion.tags.get("visionyard.reasons", "[]")):
        output.print(f"  {reason}", markup=False, soft_wrap=True)


@champion_app.command(name="history")
def history_command(model: ModelArgument, runs: RunsOption = Path("runs")) -> None:
    """List all champions, newest first, and after them the models that were refused."""
    registry = _registry(model, runs)
    champions = {version.number for version in registry.history()}
    table = Table(box=None, pad_edge=False)
    for heading in ("Version", "When", "Verdict", "Metric", "Against", "Bundle", "By"):
        table.add_column(heading)
    versions = reversed(registry.versions())
    for version in sorted(versions, key=lambda one: one.number not in champions):
        lost = version.after is not None and version.number not in champions
        tags = {
            name: version.tags.get(f"visionyard.{name}", "") for name in ("metric", "judged_against", "approved_by")
        }
        verdict = "overtaken" if lost else version.tags.get("visionyard.verdict", "")
        cells = (str(version.number), _time(version.created_ms), verdict, tags["metric"], tags["judged_against"])
        table.add_row(*cells, version.bundle_digest[:12], tags["approved_by"])
    output.print(table)


@champion_app.command(name="set")
def set_command(
    model: ModelArgument,
    version: Annotated[int, typer.Argument(help="A version that `champion history` lists.")],
    by: ByOption,
    comment: CommentOption = "",
    runs: RunsOption = Path("runs"),
) -> None:
    """Make an earlier version the champion again; refused when another promotion came in between."""
    registry = _registry(model, runs)
    reasons = [f"set by {by}" + (f": {comment}" if comment else "")]
    tags = {"visionyard.verdict": "promote", "visionyard.reasons": json.dumps(reasons), "visionyard.approved_by": by}
    if not registry.restore(version, after=registry.state().head, tags=tags):
        raise ConfigError(f"{model}: another promotion came in between; look at `champion show`, then set it again")
    champion = registry.state().champion
    number = champion.number if champion else 0
    output.print(
        f"version {version} of {model} is the champion again, as version {number}; deploying is a step of its own"
    )


def _registry(model: str, runs: Path) -> Any:
    import os

    from visionyard.tracking.registry import Registry
    from visionyard.tracking.runs import URI_VARIABLE

    local = runs.absolute() / "mlflow.db"
    return Registry(model, os.environ.get(URI_VARIABLE) or (f"sqlite:///{local}" if local.exists() else ""))


def _resolve(target: str, runs: Path) -> tuple[str, str]:
    """Return the digest of a bundle, and the store that its run's config names; empty where none does."""
    if re.fullmatch(r"[0-9a-f]{64}", target):
        return target, ""
    import yaml

    from visionyard.cli.run_folder import find_run
    from visionyard.inference import Bundle

    folder = Path(target)
    if (folder / "model.json").exists():
        return Bundle.open(folder).digest, ""
    run = find_run(runs, target).path
    config = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))
    return Bundle.open(run / "bundle").digest, str(config.get("promotion", {}).get("store", ""))


def _time(created_ms: int) -> str:
    return datetime.fromtimestamp(created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
