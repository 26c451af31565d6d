"""Training: the stage, its sessions, checkpoints, and the platform's own loop."""

from visionyard.training.checkpoint import CheckpointInfo, CheckpointStore, load_checkpoint, load_trained_model
from visionyard.training.plan import make_plan
from visionyard.training.train import TrainingReport, train_model
from visionyard.training.validate import validate_model

__all__ = [
    "CheckpointInfo",
    "CheckpointStore",
    "TrainingReport",
    "load_checkpoint",
    "load_trained_model",
    "make_plan",
    "train_model",
    "validate_model",
]
