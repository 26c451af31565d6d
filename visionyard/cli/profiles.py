"""`visionyard profiles`: which there are, and what each stage gets with one."""

from rich.console import Console
from rich.table import Table

from visionyard.cli.compile import stage_names
from visionyard.cluster.profiles import load_profile, profile_names
from visionyard.cluster.quantities import format_mebibytes
from visionyard.cluster.stage_settings import StageSettings


def print_profiles(console: Console) -> None:
    """Print the profiles that come with the package."""
    table = Table("profile", "what", box=None)
    for name in profile_names():
        table.add_row(name, load_profile(name).file.description)
    console.print(table)


def print_profile(console: Console, name: str) -> None:
    """Print what each stage gets; shared memory is that of the pipeline's defaults.

    Raises:
        ConfigError: There is no such profile, or it has mistakes.
    """
    profile = load_profile(name)
    profile.check_stages(stage_names())
    console.print(f"{profile.name}: {profile.file.description}", soft_wrap=True)
    console.print(f"account {profile.service_account}, store {profile.store or 'none'}", soft_wrap=True)
    table = Table(box=None)
    table.add_column("stage", no_wrap=True)
    for heading in ("cpu", "memory", "accelerator", "shared memory", "nodes", "retries", "timeout"):
        table.add_column(heading)
    for stage in stage_names():
        settings = profile.stage(stage)
        table.add_row(
            stage,
            _span(settings.cpu_request, settings.cpu_limit),
            _span(settings.memory_request, settings.memory_limit),
            f"{settings.accelerator_count} {settings.accelerator_type}" if settings.accelerator_count else "",
            format_mebibytes(settings.shm_bytes) if settings.shm_bytes else "64Mi",
            _nodes(settings),
            str(settings.retries or ""),
            f"{settings.timeout_s} s" if settings.timeout_s else "",
        )
    console.print(table)


def _span(request: str, limit: str) -> str:
    return f"{request} to {limit}" if request and request != limit else limit


def _nodes(settings: StageSettings) -> str:
    selected = [f"{key}={value}" for key, value in sorted(settings.node_selector.items())]
    tolerated = [f"tolerates {item.key or 'all'}" for item in settings.tolerations]
    return ", ".join(selected + tolerated)
