"""The stage move_watermark."""

from kfp import dsl

from visionyard.components._images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def move_watermark(
    store: str,
    data_digest: str,
    verdict: str,
    run_name: str = "run",
    model: str = "",
    software_digest: str = "",
) -> None:
    """Note that the data was trained on, judged and, where it was promoted, deployed: the last task of a retraining.

    Args:
        store: Folder or s3:// prefix that holds the watermark.
        data_digest: From find_new_data.
        verdict: From promote_model.
        run_name: Name of the registered model where none is given.
        model: Name of the registered model.
        software_digest: Digest of code and image.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("move_watermark"):
        from visionyard.promotion.watermark import move_watermark as move

        move(store, model or run_name, data_digest, verdict=verdict)
        events.figures(data_digest=data_digest[:12])
