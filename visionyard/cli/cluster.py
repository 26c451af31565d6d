"""The commands that talk to a cluster: profiles, submit, runs, schedule. What they do stands in modules of its own."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from visionyard.cli.cost import cost_app

output = Console(highlight=False)

HostOption = Annotated[
    str, typer.Option("--host", help="Kubeflow Pipelines: http(s)://host[:port]; or KF_PIPELINES_ENDPOINT.")
]
NamespaceOption = Annotated[str, typer.Option("--namespace", help="Namespace of a multi-user Kubeflow.")]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="Which pods the stages get: `visionyard profiles`, or a .yaml file.")
]
StoreOption = Annotated[
    str, typer.Option("--store", help="s3:// prefix for checkpoints, events and artifacts; empty: the profile's.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value; may be repeated.")
]
IdArgument = Annotated[str, typer.Argument(help="The run's id; its first letters, where they are enough.")]

profiles_app = typer.Typer(help="List the profiles, or show one.", invoke_without_command=True)
runs_app = typer.Typer(help="Runs on the cluster: list, watch, read logs, cancel.", no_args_is_help=True)
schedule_app = typer.Typer(help="Declared schedules: list, apply, delete.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(profiles_app, name="profiles")
    app.command(name="submit")(submit)
    app.add_typer(runs_app, name="runs")
    app.add_typer(schedule_app, name="schedule")
    cost_app.command(name="estimate")(estimate)


@profiles_app.callback()
def profiles_list(context: typer.Context) -> None:
    """List the profiles that come with the package."""
    if context.invoked_subcommand is None:
        from visionyard.cli.profiles import print_profiles

        print_profiles(output)


@profiles_app.command(name="show")
def profiles_show(name: Annotated[str, typer.Argument(help="A profile's name, or a .yaml file.")]) -> None:
    """Show what each stage gets with a profile."""
    from visionyard.cli.profiles import print_profile

    print_profile(output, name)


def submit(
    config: Annotated[
        Path | None, typer.Argument(help="The run config, such as run.yaml; for pipelines that train.")
    ] = None,
    profile: ProfileOption = "cpu",
    settings: SetOption = None,
    pipeline: Annotated[str, typer.Option(help="Which pipeline.")] = "train_model",
    parameters: Annotated[
        list[str] | None,
        typer.Option("--parameter", metavar="NAME=VALUE", help="Of the pipeline, beyond the config; may be repeated."),
    ] = None,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    experiment: Annotated[str, typer.Option(help="Group of runs; empty: the config's name, or the pipeline's.")] = "",
    store: StoreOption = "",
    is_fresh: Annotated[
        bool, typer.Option("--fresh", help="Do not look at the source from here; the run reads it anew.")
    ] = False,
    is_waiting: Annotated[
        bool, typer.Option("--wait", help="Watch until it ends; exit code 1 when it failed.")
    ] = False,
) -> None:
    """Run the pipeline on a cluster."""
    from visionyard.cli.submit import Request, submit_command
    from visionyard.config import load_run_config

    loaded = load_run_config(config, overrides=settings or []) if config or settings else None
    request = Request(pipeline, profile, store, experiment, is_fresh=is_fresh, parameters=parameters or ())
    raise typer.Exit(
        submit_command(loaded, request, host=host, namespace=namespace, is_waiting=is_waiting, console=output)
    )


@runs_app.command(name="list")
def runs_list(
    host: HostOption = "",
    namespace: NamespaceOption = "",
    experiment: Annotated[str, typer.Option(help="Only those of this experiment.")] = "",
    most: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 20,
) -> None:
    """List the newest runs."""
    from visionyard.cli.runs import list_command

    list_command(host, namespace, experiment=experiment, most=most, console=output)


@runs_app.command(name="watch")
def runs_watch(run: IdArgument, host: HostOption = "", namespace: NamespaceOption = "") -> None:
    """Follow a run until it ends; exit code 1 when it did not end well."""
    from visionyard.cli.runs import watch_command

    raise typer.Exit(watch_command(host, namespace, run, console=output))


@runs_app.command(name="logs")
def runs_logs(
    run: IdArgument,
    stage: Annotated[str, typer.Argument(help="A stage, such as train_model; empty: those that failed.")] = "",
    host: HostOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Print what the pods of a run printed."""
    from visionyard.cli.runs import logs_command

    logs_command(host, namespace, run, stage=stage, console=output)


@runs_app.command(name="cancel")
def runs_cancel(run: IdArgument, host: HostOption = "", namespace: NamespaceOption = "") -> None:
    """Stop a run; submitting it again goes on from its checkpoints."""
    from visionyard.cli.runs import cancel_command

    cancel_command(host, namespace, run, console=output)


@schedule_app.command(name="list")
def schedule_list(
    host: HostOption = "",
    namespace: NamespaceOption = "",
    is_check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 when one had no success for longer than it may.")
    ] = False,
) -> None:
    """List the schedules with their last success."""
    from visionyard.cli.schedules import list_command

    raise typer.Exit(list_command(host, namespace, is_check=is_check, console=output))


@schedule_app.command(name="apply")
def schedule_apply(
    file: Annotated[Path, typer.Argument(help="A YAML file of schedules; docs/schedules.md shows one.")],
    host: HostOption = "",
    namespace: NamespaceOption = "",
    store: StoreOption = "",
    is_pruning: Annotated[
        bool, typer.Option("--prune", help="Remove those of the file's group that it no longer holds.")
    ] = False,
) -> None:
    """Make the server's schedules agree with a file; what agrees is left alone."""
    from visionyard.cli.schedules import apply_command

    apply_command(host, namespace, file, store=store, is_pruning=is_pruning, console=output)


@schedule_app.command(name="delete")
def schedule_delete(
    names: Annotated[list[str], typer.Argument(help="Names of schedules.")],
    host: HostOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Remove schedules; runs that they started stay."""
    from visionyard.cli.schedules import delete_command

    delete_command(host, namespace, names, console=output)


def estimate(
    config: Annotated[Path, typer.Argument(help="The run config, such as run.yaml.")],
    *,
    prices: Annotated[Path, typer.Option("--prices", help="The price table.", envvar="VISIONYARD_PRICES")],
    profile: ProfileOption = "cpu",
    settings: SetOption = None,
    minutes: Annotated[
        list[str] | None, typer.Option("--minutes", metavar="STAGE=MINUTES", help="How long a stage takes.")
    ] = None,
    like: Annotated[str, typer.Option(help="A former run; empty: the newest of the config's name.")] = "",
    runs: Annotated[Path, typer.Option("--runs", help="Folder that holds all runs.", envvar="VISIONYARD_RUNS")] = Path(
        "runs"
    ),
) -> None:
    """Say what a run will cost: the stages' times of a former run, or stated ones, times what their pods hold."""
    from visionyard.cli.estimate import estimate_command
    from visionyard.config import load_run_config

    loaded = load_run_config(config, overrides=settings or [])
    estimate_command(
        loaded, profile=profile, prices=prices, minutes=minutes or [], like=like, runs=runs, console=output
    )
