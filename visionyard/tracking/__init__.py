"""Experiment tracking with MLflow."""

from visionyard.tracking.runs import TrainingRun, end_pipeline_run, log_figures, log_result, training_run

__all__ = ["TrainingRun", "end_pipeline_run", "log_figures", "log_result", "training_run"]
