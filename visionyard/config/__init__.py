"""Settings: the run config, how it is read, and how it becomes pipeline parameters."""

from visionyard.config.loading import (
    describe_problems,
    field_names,
    load_run_config,
    load_serving_config,
    parse_deployment_config,
    parse_run_config,
    parse_serving_config,
)
from visionyard.config.parameters import from_parameters, parameter_name, section_parameters, to_parameters
from visionyard.config.run_config import (
    BenchmarkConfig,
    DataConfig,
    DeploymentConfig,
    ExportConfig,
    FramesConfig,
    ModelConfig,
    PromotionConfig,
    RunConfig,
    Section,
    TrainingConfig,
    ValidationConfig,
)
from visionyard.config.serving_config import ServedModelConfig, ServingConfig

__all__ = [
    "BenchmarkConfig",
    "DataConfig",
    "DeploymentConfig",
    "ExportConfig",
    "FramesConfig",
    "ModelConfig",
    "PromotionConfig",
    "RunConfig",
    "Section",
    "ServedModelConfig",
    "ServingConfig",
    "TrainingConfig",
    "ValidationConfig",
    "describe_problems",
    "field_names",
    "from_parameters",
    "load_run_config",
    "load_serving_config",
    "parameter_name",
    "parse_deployment_config",
    "parse_run_config",
    "parse_serving_config",
    "section_parameters",
    "to_parameters",
]
