"""The stage train_model."""

from kfp import dsl

from visionyard.components._images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def train_model(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Output[dsl.Model],
    name: str = "yolo-detection",
    preset: str = "",
    weights: str = "",
    options: dict = {},
    epochs: int = 20,
    batch_size: int = 0,
    image_size_px: int = 0,
    learning_rate: float = 0.0,
    weight_decay: float = 0.0005,
    patience: int = 0,
    keep_epochs: list = [],
    seed: int = 0,
    device: str = "auto",
    mixed_precision: str = "no",
    loader_workers: int = -1,
    allow_leak: bool = False,
    checkpoints_uri: str = "",
    software_digest: str = "",
) -> None:
    """Train a model; go on from the newest valid checkpoint when there is one.

    Args:
        dataset: From prepare_dataset.
        name: The model plugin.
        preset: The plugin's variant or its own model file; empty takes the default.
        weights: Start from these: a path, s3:// address, or a name the plugin knows; empty starts from scratch.
        options: The plugin's own options.
        epochs: Passes over the training split.
        batch_size: Images per optimizer step; 0 takes the preset's.
        image_size_px: Side of the model's input; 0 takes the preset's.
        learning_rate: Peak learning rate; 0 takes the preset's.
        weight_decay: Decoupled weight decay.
        patience: Stop after this many epochs without a better one; 0 never stops early.
        keep_epochs: Epochs whose checkpoints stay, beside the newest three and the best.
        seed: Seed of weights, order and augmentation.
        device: auto, cpu, cuda or cuda:N.
        mixed_precision: no, fp16 or bf16.
        loader_workers: Processes that prepare batches; -1 computes it from the cores.
        allow_leak: Train although the split leaks.
        checkpoints_uri: Folder or s3:// prefix for checkpoints; empty keeps them beside the output.
        software_digest: Digest of code and image, so that a cached result ends when they change.

    Returns:
        checkpoint: The best checkpoint and the curves of every epoch.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("train_model"):
        from pathlib import Path

        from visionyard import tracking
        from visionyard.config import ModelConfig, TrainingConfig
        from visionyard.training import train_model as train

        with tracking.training_run() as run:
            report = train(
                Path(dataset.path),
                Path(checkpoint.path),
                model=ModelConfig(name=name, preset=preset, weights=weights, options=options),
                training=TrainingConfig(
                    epochs=epochs,
                    batch_size=batch_size,
                    image_size_px=image_size_px,
                    learning_rate=learning_rate,
                    weight_decay=weight_decay,
                    patience=patience,
                    keep_epochs=keep_epochs,
                    seed=seed,
                    device=device,
                    mixed_precision=mixed_precision,
                    loader_workers=loader_workers,
                ),
                checkpoints_uri=checkpoints_uri or f"{checkpoint.path}.checkpoints",
                allow_leak=allow_leak,
            )
            run.log_training(report.plan.to_json(), report.metadata(), report.history)
        checkpoint.metadata.update(report.metadata())
        events.figures(**report.figures())
