"""The stage prepare_dataset."""

from kfp import dsl

from visionyard.components._images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def prepare_dataset(
    sources: dsl.Input[dsl.Dataset],
    frames: dsl.Input[dsl.Dataset],
    dataset: dsl.Output[dsl.Dataset],
    classes: list = [],
    split_mode: str = "group",
    val_fraction: float = 0.15,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    software_digest: str = "",
) -> None:
    """Check the labels, split by group so that nothing leaks, and pack the dataset version.

    Args:
        sources: From ingest_dataset.
        frames: From extract_frames.
        classes: Class names to keep, in the order of their ids; empty keeps all.
        split_mode: group draws a leak-safe split; published keeps the source's own.
        val_fraction: Share of the items for validation while training.
        test_fraction: Share of the items that judge the finished model.
        split_seed: Seed of the split.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        dataset: The dataset version: shards, index, leak certificate, problems found.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("prepare_dataset"):
        from pathlib import Path

        from visionyard.data.prepare import prepare_dataset as prepare

        report = prepare(
            Path(sources.path),
            Path(frames.path),
            Path(dataset.path),
            classes=classes,
            split_mode=split_mode,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
        )
        dataset.metadata.update(report.metadata())
        counts = report.item_counts
        events.figures(
            images=sum(counts.values()),
            **{split: counts[split] for split in ("train", "val", "test")},
            problems=report.problem_count,
        )
