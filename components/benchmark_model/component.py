"""The stage benchmark_model."""

from kfp import dsl

from visionyard.components._images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def benchmark_model(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Input[dsl.Model],
    benchmark: dsl.Output[dsl.Artifact],
    full_report: dsl.Output[dsl.HTML],
    batch_sizes: list = [1, 8],
    threads: list = [1, 2],
    repeat_count: int = 30,
    warmup_count: int = 3,
    software_digest: str = "",
) -> None:
    """Measure every format of the bundle on real images and complete the report.

    Args:
        dataset: From prepare_dataset.
        checkpoint: From train_model.
        evaluation: From validate_model.
        bundle: From export_model.
        batch_sizes: Images per call.
        threads: Intra-operator threads; more than the cores are skipped.
        repeat_count: Timed calls of each combination.
        warmup_count: Calls before the timed ones.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        benchmark: Latency, throughput, memory, size and load time as JSON, table and plot.
        full_report: The page about data, training, test results, parity and speed.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("benchmark_model"):
        from pathlib import Path

        from visionyard.benchmark import benchmark_model as measure
        from visionyard.evaluation import build_report

        report = measure(
            Path(bundle.path),
            Path(dataset.path),
            Path(benchmark.path),
            batch_sizes=[int(size) for size in batch_sizes],
            threads=[int(count) for count in threads],
            repeat_count=repeat_count,
            warmup_count=warmup_count,
        )
        build_report(
            Path(full_report.path),
            evaluation=Path(evaluation.path),
            dataset=Path(dataset.path),
            training=Path(checkpoint.path),
            bundle=Path(bundle.path),
            benchmark=Path(benchmark.path),
        )
        benchmark.metadata.update(report.metadata())
        events.figures(**report.figures())
