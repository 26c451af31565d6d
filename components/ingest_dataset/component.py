"""The stage ingest_dataset."""

from kfp import dsl

from visionyard.components._images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def ingest_dataset(
    sources: dsl.Output[dsl.Dataset],
    source: str,
    kind: str = "auto",
    target: str = "",
    group_pattern: str = "",
    data_digest: str = "",
    software_digest: str = "",
) -> None:
    """Bring clips or labelled images in, verified and hashed.

    Args:
        source: Folder, archive or file: a path, s3://bucket/prefix or http(s) address.
        kind: Layout: auto, or a kind that docs/bring-your-data.md names.
        target: Column to be learnt, for kind table; empty when the table's schema file names it.
        group_pattern: Regular expression on an image's path whose first group names its group.
        data_digest: Digest of the source's content, so that a cached result ends when the data changes.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        sources: The verified files in shards, with annotations and the problems found.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("ingest_dataset"):
        from pathlib import Path

        from visionyard.config import parse_run_config
        from visionyard.data.ingest import ingest

        # Checked as in a run config: a run form can hold anything.
        values = {"source": source, "kind": kind, "target": target, "group_pattern": group_pattern}
        data = parse_run_config({"data": values}).data
        report = ingest(
            data.source,
            Path(sources.path),
            kind=data.kind,
            group_pattern=data.group_pattern,
            target_column=data.target,
        )
        sources.metadata.update(report.metadata())
        events.figures(**report.figures())
