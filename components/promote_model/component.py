"""The stage promote_model."""

from typing import NamedTuple

from kfp import dsl

from visionyard.components._images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def promote_model(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Input[dsl.Model],
    benchmark: dsl.Input[dsl.Artifact],
    judgement: dsl.Output[dsl.Artifact],
    judgement_page: dsl.Output[dsl.Markdown],
    final_report: dsl.Output[dsl.HTML],
    run_name: str = "run",
    model: str = "",
    confidence: float = 0.95,
    least_gain: float = 0.0,
    class_budget: float = 0.05,
    least_metric: float = 0.0,
    most_p95_ms: float = 0.0,
    approval: str = "none",
    store: str = "",
    data_digest: str = "",
    software_digest: str = "",
) -> NamedTuple("Verdict", [("verdict", str)]):
    """Judge the new bundle against the champion on the new test split; the better one is the champion afterwards.

    Args:
        dataset: From prepare_dataset.
        checkpoint: From train_model.
        evaluation: From validate_model.
        bundle: From export_model.
        benchmark: From benchmark_model.
        run_name: Name of the registered model where none is given.
        model: Name of the registered model.
        confidence: How certain the gain must be, above 0.5 and below 1.
        least_gain: Gain of the main metric that is asked for.
        class_budget: Most that the measure of one class may fall.
        least_metric: Least value of the main metric.
        most_p95_ms: Most latency of the fastest format; 0: no limit.
        approval: none, or required for a person's approval in the store.
        store: Folder or s3:// prefix of approvals and watermarks.
        data_digest: Digest of the source; noted in the store as trained on and judged, so that retraining skips it.
        software_digest: Digest of code and image.

    Returns:
        judgement: The verdict with its reasons, as JSON and as a page.
        judgement_page: The page, for the run's page.
        final_report: The report of benchmark_model with the verdict.
        verdict: promote or reject.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("promote_model"):
        import shutil
        from pathlib import Path

        from visionyard import tracking
        from visionyard.config import PromotionConfig
        from visionyard.evaluation import build_report
        from visionyard.promotion import move_watermark
        from visionyard.promotion import promote_model as promote
        from visionyard.promotion.verdict import PAGE

        decision = promote(
            bundle=Path(bundle.path),
            checkpoint=Path(checkpoint.path),
            dataset=Path(dataset.path),
            evaluation=Path(evaluation.path),
            benchmark=Path(benchmark.path),
            target=Path(judgement.path),
            config=PromotionConfig(
                model=model,
                confidence=confidence,
                least_gain=least_gain,
                class_budget=class_budget,
                least_metric=least_metric,
                most_p95_ms=most_p95_ms,
                approval=approval,
                store=store,
            ),
            run_name=run_name,
        )
        shutil.copyfile(Path(judgement.path) / PAGE, judgement_page.path)
        build_report(
            Path(final_report.path),
            evaluation=Path(evaluation.path),
            dataset=Path(dataset.path),
            training=Path(checkpoint.path),
            bundle=Path(bundle.path),
            benchmark=Path(benchmark.path),
            verdict=Path(judgement.path),
        )
        tracking.log_result(bundle=Path(bundle.path), report=Path(final_report.path), evaluation=Path(evaluation.path))
        verdict = decision.judgement.verdict
        # What waits for approval is not through: the next retraining comes back to it.
        if store and data_digest and not decision.is_pending:
            move_watermark(store, model or run_name, data_digest, verdict=verdict)
        judgement.metadata.update({"verdict": verdict, "is_pending": decision.is_pending})
        if verdict == "reject":
            for reason in decision.judgement.reasons:
                events.warn(f"not promoted: {reason}")
        events.figures(verdict=verdict, change=decision.change, champion=decision.champion_version)
    return (verdict,)
