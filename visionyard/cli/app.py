"""The commands. Exit codes: 0 done, 1 failed, 2 wrong use or config."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from visionyard import __version__
from visionyard.cli import cluster, deploy, promotion
from visionyard.cli.capture import capture_command
from visionyard.cli.cost import cost_app
from visionyard.cli.dataset import dataset_app
from visionyard.errors import ConfigError, VisionyardError

app = typer.Typer(
    name="visionyard",
    help="Train, validate, export, benchmark and ship vision models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="List the model plugins, or show one.", invoke_without_command=True)
app.add_typer(models_app, name="models")
bundle_app = typer.Typer(help="Look at a model bundle, verify it, or make one from an ONNX file.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")

output = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

ConfigArgument = Annotated[Path, typer.Argument(help="The run config, such as run.yaml.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value; may be repeated.")
]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder that holds all runs.", envvar="VISIONYARD_RUNS")]


def main() -> None:
    """Run the command line; every error becomes a message and an exit code."""
    try:
        app()
    except ConfigError as error:
        for problem in error.problems:
            errors.print(problem, style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except VisionyardError as error:
        errors.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(1)


def _print_version(value: bool) -> None:
    if value:
        output.print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("run.yaml"),
    source: Annotated[str, typer.Option(help="Where the data is: a path, s3:// or http(s) address.")] = "data",
) -> None:
    """Write a commented run config."""
    from visionyard.config.template import write_template

    write_template(path, source=source)
    output.print(f"wrote {path}; edit it, then: visionyard check {path}")


@app.command()
def check(config: ConfigArgument, settings: SetOption = None) -> None:
    """Report every mistake in a run config at once, without running it."""
    from visionyard.cli.check import find_problems
    from visionyard.config import load_run_config

    problems = find_problems(load_run_config(config, overrides=settings or []))
    if problems:
        raise ConfigError(problems)
    output.print(f"{config}: no mistakes found")


@app.command()
def run(
    config: ConfigArgument,
    settings: SetOption = None,
    is_new: Annotated[bool, typer.Option("--new", help="Start a new run, even if one could go on.")] = False,
    runner: Annotated[
        str, typer.Option(help="What each stage is: subprocess; or containers, by Docker or podman and our images.")
    ] = "subprocess",
    runs: RunsOption = Path("runs"),
) -> None:
    """Run the whole pipeline on this machine: data in, a certified and benchmarked model out.

    A run that was stopped or failed goes on where it stopped, when the config is the same.
    """
    from visionyard.cli.run_command import run_pipeline
    from visionyard.config import load_run_config

    loaded = load_run_config(config, overrides=settings or [])
    raise typer.Exit(run_pipeline(loaded, runs=runs, is_new=is_new, console=output, runner=runner))


@app.command(name="compile")
def compile_command(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.")] = "train_model",
    path: Annotated[
        Path | None, typer.Option("-o", "--output", help="The .yaml file to write; default: the pipeline's name here.")
    ] = None,
    profile: cluster.ProfileOption = "cpu",
    config: Annotated[Path | None, typer.Option("--config", help="A run config whose values become defaults.")] = None,
) -> None:
    """Compile a pipeline to the YAML that Kubeflow Pipelines runs."""
    from visionyard.cli.compile import compile_pipeline
    from visionyard.config import load_run_config, to_parameters

    parameters = to_parameters(load_run_config(config)) if config else None
    target = path or Path(f"{pipeline}.yaml")
    compile_pipeline(pipeline, target, parameters=parameters, profile=profile)
    output.print(f"wrote {target}")


@app.command()
def predict(
    bundle: Annotated[str, typer.Argument(help="A model bundle's folder; with --url the first path.")],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Images, videos, folders of them, dataset versions, s3://bucket/prefix; CSV, TSV, Parquet."
        ),
    ] = None,
    out: Annotated[str, typer.Option(help="Folder for drawn images; of a batch, place of the results.")] = "",
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON lines for scripts.")] = False,
    confidence: Annotated[float | None, typer.Option(help="Lowest confidence that counts, 0 to 1.")] = None,
    model_format: Annotated[str, typer.Option("--format", help="Format of the bundle; empty: the fastest.")] = "",
    rate_hz: Annotated[float, typer.Option(help="Frames of a video looked at per second.")] = 1.0,
    url: Annotated[
        str, typer.Option(help="Ask this server: http://host:8080 or grpc://host:8081; key in VISIONYARD_API_KEY.")
    ] = "",
    model: Annotated[str, typer.Option(help="Name of the model on the server; empty: the only one.")] = "",
    downsize_px: Annotated[int, typer.Option(help="Longest side sent to the server; 0: images as they are.")] = 0,
    parts: Annotated[
        str, typer.Option(help="Batch: write results as parts, jsonl or parquet, to --out; jsonl where s3:// is named.")
    ] = "",
    workers: Annotated[int, typer.Option(help="Batch: threads that load images; 0: one a core.")] = 0,
) -> None:
    """Run a model on images, videos or rows of tables: a table, drawn pictures, JSON, or a resumable batch in parts."""
    from visionyard.cli.predict import Server, predict_paths_command
    from visionyard.cli.predict_batch import is_batch, predict_batch_command
    from visionyard.cli.predict_rows import are_rows, predict_rows_command

    named = [*([bundle] if url else []), *(paths or [])]
    if not named:
        raise ConfigError("PATHS is missing: expected images, videos, folders, tables or an s3:// address")
    if are_rows("" if url else bundle, named):
        if out or parts:
            raise ConfigError(f"{named[0]}: the predictions of rows are printed; leave --out and --parts out")
        predict_rows_command(
            Server(url, model) if url else Path(bundle),
            [Path(path) for path in named],
            is_json=is_json,
            model_format=model_format,
            console=output,
        )
        return
    if is_batch(named, out, parts):
        if url:
            raise ConfigError("--url with --parts or s3://: a batch runs the bundle itself; give its folder instead")
        predict_batch_command(
            Path(bundle),
            named,
            out=out,
            parts=parts,
            confidence=confidence,
            model_format=model_format,
            rate_hz=rate_hz,
            worker_count=workers,
            console=output,
        )
        return
    predict_paths_command(
        Server(url, model, downsize_px) if url else Path(bundle),
        [Path(path) for path in named],
        drawn=Path(out) if out else None,
        is_json=is_json,
        confidence=confidence,
        model_format=model_format,
        rate_hz=rate_hz,
        console=output,
    )


@app.command()
def benchmark(
    bundle: Annotated[Path, typer.Argument(help="A model bundle's folder.")],
    dataset: Annotated[
        Path | None, typer.Option(help="Dataset version whose test images are used; default: beside the bundle.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default: benchmark-<time> here.")] = None,
    batch_sizes: Annotated[str, typer.Option(help="Images per call, comma separated.")] = "1,8",
    threads: Annotated[str, typer.Option(help="Intra-operator threads, comma separated.")] = "1,2",
    repeat_count: Annotated[int, typer.Option(help="Timed calls of each combination.")] = 30,
    is_kept: Annotated[
        bool, typer.Option("--keep", help="Put the figures into the bundle, so that auto takes the fastest format.")
    ] = False,
) -> None:
    """Measure every format of a bundle on real images, or rows: latency, throughput, memory, load time."""
    from visionyard.cli.benchmark import benchmark_command

    benchmark_command(
        bundle,
        dataset=dataset,
        out=out,
        batch_sizes=batch_sizes,
        threads=threads,
        repeat_count=repeat_count,
        is_kept=is_kept,
        console=output,
    )


@models_app.callback()
def models_list(context: typer.Context) -> None:
    """List the model plugins."""
    if context.invoked_subcommand is None:
        from visionyard.cli.models import print_models

        print_models(output)


@models_app.command(name="show")
def models_show(name: Annotated[str, typer.Argument(help="A plugin's name.")]) -> None:
    """Show a plugin's presets and options."""
    from visionyard.cli.models import print_model

    print_model(output, name)


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="A run: its folder or name; empty: the newest.")] = "",
    is_opened: Annotated[bool, typer.Option("--open/--no-open", help="Show it in the browser.")] = True,
    runs: RunsOption = Path("runs"),
) -> None:
    """Rebuild a run's report from its folder and open it."""
    from visionyard.cli.report import rebuild_report
    from visionyard.cli.run_folder import find_run

    path = rebuild_report(find_run(runs, name))
    output.print(str(path), soft_wrap=True)
    if is_opened:
        typer.launch(str(path))


@app.command()
def samples(
    uri: Annotated[
        str, typer.Argument(help="Where a server kept samples: sampling.uri, and the model's name below it.")
    ],
    target: Annotated[Path, typer.Argument(help="A new folder for them.")],
) -> None:
    """Gather a server's samples into a folder, so that a person corrects the labels and the next run takes them."""
    from visionyard.monitoring.sampling_shards import GROUP_PATTERN, gather_samples

    count = gather_samples(uri, target)
    output.print(f"{count} images in {target}; once their labels are right:", markup=False, soft_wrap=True)
    pattern = shlex.quote(f"data.group_pattern={GROUP_PATTERN}")
    command = f"  visionyard run run.yaml --set {shlex.quote(f'data.source={target}')} --set {pattern}"
    output.print(command, markup=False, soft_wrap=True)


@app.command(hidden=True)
def docs(
    root: Annotated[Path, typer.Argument(help="The repository.")] = Path(),
    is_check: Annotated[bool, typer.Option("--check", help="Only say which pages are stale.")] = False,
) -> None:
    """Write the pages that are made from docstrings."""
    from visionyard.cli.docs import write_pages

    stale = write_pages(root, is_check=is_check)
    if stale and is_check:
        raise VisionyardError(f"stale pages: {', '.join(stale)}; run `make docs`")
    output.print(f"{len(stale)} pages written")


@bundle_app.command(name="import")
def bundle_import(
    model: Annotated[Path, typer.Argument(help="An ONNX file made elsewhere.")],
    spec: Annotated[Path, typer.Option(help="YAML: name, classes, licence, preprocessing, postprocessing.")],
    target: Annotated[Path, typer.Option("--out", help="The bundle's folder, new.")],
    images: Annotated[
        list[Path] | None, typer.Option(help="Images, videos or folders to try it on; may be repeated.")
    ] = None,
) -> None:
    """Wrap an ONNX file as a bundle that predict and serve take, once a trial has shown that the spec fits."""
    from visionyard.cli.bundle import import_command

    import_command(model, spec, target, images=images or [], console=output)


@bundle_app.command(name="show")
def bundle_show(bundle: Annotated[Path, typer.Argument(help="A model bundle's folder.")]) -> None:
    """Show what a bundle is, in short."""
    from visionyard.cli.bundle import show_command

    show_command(bundle, console=output)


@bundle_app.command(name="verify")
def bundle_verify(bundle: Annotated[Path, typer.Argument(help="A model bundle's folder.")]) -> None:
    """Verify every file of a bundle against its model.json."""
    from visionyard.cli.bundle import verify_command

    verify_command(bundle, console=output)


@app.command()
def serve(
    bundles: Annotated[
        list[str] | None, typer.Argument(help="Model bundles: folders, or s3:// addresses; also those of the config.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The serving config, such as serving.yaml.")] = None,
    settings: SetOption = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", "--model_name", help="Name of a bundle in the URLs; may be repeated, in their order."),
    ] = None,
    model_dirs: Annotated[
        list[str] | None, typer.Option("--model_dir", help="A further bundle, as KServe passes it.", hidden=True)
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = None,
    http_port: Annotated[
        int | None, typer.Option("--http-port", "--http_port", help="Port of REST; 0: any free one.")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option("--grpc-port", "--grpc_port", help="Port of gRPC; 0: any free one, -1: no gRPC.")
    ] = None,
) -> None:
    """Serve model bundles: images in, boxes or classes out, over REST and gRPC."""
    from visionyard.cli.serve import make_config, serve_command

    loaded = make_config(
        [*(bundles or []), *(model_dirs or [])],
        names or [],
        path=config,
        settings=settings or [],
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
    )
    serve_command(loaded, console=output)


@app.command()
def receive(
    config: Annotated[Path, typer.Option("--config", help="Which alerts count, and for which models.")] = Path(
        "receiver.yaml"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = 8090,
    address: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "0.0.0.0",  # noqa: S104
    host: cluster.HostOption = "",
    namespace: cluster.NamespaceOption = "",
) -> None:
    """Receive Alertmanager's notifications and start the retraining pipeline when a model's pictures drift."""
    from visionyard.cli.receive import receive_command

    receive_command(config, address=address, port=port, host=host, namespace=namespace)


app.command(name="capture")(capture_command)
app.add_typer(cost_app, name="cost")
app.add_typer(dataset_app, name="dataset")
cluster.register(app)
promotion.register(app)
deploy.register(app)
