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
    folds: int = 0,
    fold: int = 0,
    previous: str = "",
    split_file: str = "",
    group_by: str = "clip",
    near_duplicates: str = "group",
    leak_budget: float = 0.01,
    split_file_digest: str = "",
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
        folds: Divide into so many parts for cross-validation, 3 or more; 0 uses the shares above.
        fold: Which fold this run tests, 0 to folds - 1; the next one validates.
        previous: Folder or address of an earlier dataset version; its images keep their splits.
        split_file: CSV of names and the splits they stand in: a path, s3:// or http(s) address; empty: none.
        group_by: clip keeps a whole clip in one split; scene only each shot of it.
        near_duplicates: group keeps images that show the same in one split; report only counts them.
        leak_budget: Share of val and test that may have a near-duplicate in another split.
        split_file_digest: Digest of that file's content, so that a cached result ends when it changes.
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
            folds=folds,
            fold=fold,
            previous=previous,
            split_file=split_file,
            group_by=group_by,
            near_duplicates=near_duplicates,
            leak_budget=leak_budget,
        )
        dataset.metadata.update(report.metadata())
        counts = report.item_counts
        events.figures(
            **{"rows" if report.task == "table" else "images": sum(counts.values())},
            **{split: counts[split] for split in ("train", "val", "test")},
            problems=report.problem_count,
        )
