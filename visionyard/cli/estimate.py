"""`visionyard cost estimate`: what a run will cost with a profile."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from visionyard.cli.compile import stage_names
from visionyard.cli.run_folder import find_run
from visionyard.cli.words import format_duration
from visionyard.cluster.costs import load_prices
from visionyard.cluster.estimates import estimate_stages, stage_seconds, stated_seconds
from visionyard.cluster.profiles import load_profile
from visionyard.config import RunConfig, to_parameters
from visionyard.errors import ConfigError
from visionyard.events import read_events


def estimate_command(
    config: RunConfig,
    *,
    profile: str,
    prices: Path,
    minutes: list[str],
    like: str,
    runs: Path,
    console: Console,
) -> None:
    """Print what each stage will cost.

    Args:
        config: The run to come.
        profile: Name or path of the profile.
        prices: The price table.
        minutes: `STAGE=MINUTES` texts, which win over what a former run took.
        like: The former run: its folder or name; empty: the newest of the config's name, or none.
        runs: Holds former runs.
        console: Where to print.

    Raises:
        ConfigError: The table, the profile or a text is wrong, there is no such run, or no time is known of any stage.
    """
    stated = stated_seconds(minutes)
    known = stage_names()
    if unknown := sorted(set(stated) - set(known)):
        raise ConfigError([f"--minutes {name}: no such stage; known: {', '.join(known)}" for name in unknown])
    measured, where = _former(config, like, runs)
    times = {**measured, **stated}
    if not times:
        raise ConfigError(
            f"nothing is known of how long {config.name} takes: name a former run with --like, or say it with "
            "--minutes train_model=90"
        )
    table_of_prices = load_prices(prices)
    estimates = estimate_stages(times, load_profile(profile), table_of_prices, to_parameters(config))
    table = Table("stage", "time", "from", "pod", table_of_prices.currency, box=None)
    for one in estimates:
        table.add_row(one.stage, format_duration(one.elapsed_s), one.origin, one.resources, f"{one.cost:.4f}")
    console.print(table)
    total = sum(one.cost for one in estimates)
    console.print(f"[bold]{total:.4f} {table_of_prices.currency}[/bold] with profile {profile}{where}", soft_wrap=True)
    console.print("Not in it: pods and nodes that start, stored bytes, and another machine's speed.", style="dim")


def _former(config: RunConfig, like: str, runs: Path) -> tuple[dict[str, tuple[float, str]], str]:
    try:
        folder = find_run(runs, like or config.name)
    except ConfigError:
        if like:
            raise
        return {}, ""
    found = stage_seconds(read_events(folder.events), config)
    return found, f", times of {folder.name}" if found else ""
