"""The yolo plugins: detection and classification by Ultralytics."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from visionyard.config import Section
from visionyard.data.dataset import Dataset
from visionyard.errors import ConfigError, ModelError
from visionyard.models.plugin import ModelPlugin, PluginInfo, Preset, TrainingPlan, TrainingSession
from visionyard.models.yolo.environment import load_ultralytics
from visionyard.models.yolo.layout import classification_layout, detection_layout
from visionyard.models.yolo.trainer import fits_in_memory, run_training
from visionyard.transforms import (
    ClassificationPostprocessing,
    DetectionPostprocessing,
    Postprocessing,
    PreprocessingSpec,
)

if TYPE_CHECKING:
    from torch import nn

# The coarsest feature map has one cell for 32 pixels.
_STRIDE_PX = 32
_WEIGHTS = "A .pt file of Ultralytics or a state dict, as a path or s3:// address; nothing is downloaded by name."


class YoloOptions(Section):
    """What both yolo plugins let a user set; defaults are Ultralytics' own unless the text says otherwise."""

    optimizer: Literal["AdamW", "SGD", "MuSGD"] = Field("AdamW", description="Optimizer; AdamW is sound on small data.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD, first beta of AdamW.")
    final_learning_rate_fraction: float = Field(0.01, gt=0, le=1, description="Last learning rate over the peak one.")
    cosine_schedule: bool = Field(False, description="Cosine instead of linear decay of the learning rate.")
    warmup_epochs: float = Field(1.0, ge=0, description="Epochs of rising learning rate; 1 suits short trainings.")
    flip_horizontal: float = Field(0.5, ge=0, le=1, description="Share of mirrored images; 0 for text or digits.")
    hue: float = Field(0.015, ge=0, le=1, description="Colour shift, as a fraction.")
    saturation: float = Field(0.7, ge=0, le=1, description="Saturation change, as a fraction.")
    brightness: float = Field(0.4, ge=0, le=1, description="Brightness change, as a fraction.")
    scale: float = Field(0.5, ge=0, le=1, description="Zoom change, as a fraction.")
    freeze_layer_count: int = Field(0, ge=0, description="First layers whose weights stay as they are.")
    cache: Literal["auto", "ram", "none"] = Field(
        "auto", description="Keep decoded images in memory between epochs; auto does so when they fit well."
    )

    def settings(self, image_count: int, image_size_px: int) -> dict[str, Any]:
        """Return the options under Ultralytics' names."""
        is_cached = self.cache == "ram" or (self.cache == "auto" and fits_in_memory(image_count, image_size_px))
        return {
            "optimizer": self.optimizer,
            "momentum": self.momentum,
            "lrf": self.final_learning_rate_fraction,
            "cos_lr": self.cosine_schedule,
            "warmup_epochs": self.warmup_epochs,
            "warmup_bias_lr": 0.0,
            "fliplr": self.flip_horizontal,
            "hsv_h": self.hue,
            "hsv_s": self.saturation,
            "hsv_v": self.brightness,
            "scale": self.scale,
            "freeze": self.freeze_layer_count or None,
            "cache": "ram" if is_cached else False,
        }


class YoloDetectionOptions(YoloOptions):
    """Options of yolo-detection."""

    mosaic: float = Field(1.0, ge=0, le=1, description="Share of training images glued from four.")
    mosaic_free_epochs: int = Field(10, ge=0, description="Last epochs without mosaic.")
    rotation_deg: float = Field(0.0, ge=0, le=180, description="Largest rotation, degrees either way.")
    translation: float = Field(0.1, ge=0, le=0.9, description="Largest shift, as a fraction of the image.")

    def settings(self, image_count: int, image_size_px: int) -> dict[str, Any]:
        """Return the options under Ultralytics' names."""
        return {
            **super().settings(image_count, image_size_px),
            "mosaic": self.mosaic,
            "close_mosaic": self.mosaic_free_epochs,
            "degrees": self.rotation_deg,
            "translate": self.translation,
        }


class YoloClassificationOptions(YoloOptions):
    """Options of yolo-classification."""

    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the last layer.")
    auto_augment: Literal["none", "randaugment", "autoaugment", "augmix"] = Field(
        "none", description="A ready augmentation policy; none suits trainings of few epochs."
    )
    erasing: float = Field(0.0, ge=0, le=0.9, description="Share of images with an erased patch.")

    def settings(self, image_count: int, image_size_px: int) -> dict[str, Any]:
        """Return the options under Ultralytics' names."""
        return {
            **super().settings(image_count, image_size_px),
            "dropout": self.dropout,
            "auto_augment": None if self.auto_augment == "none" else self.auto_augment,
            "erasing": self.erasing,
        }


class YoloPlugin(ModelPlugin):
    """What both yolo plugins share."""

    options_model: ClassVar[type[YoloOptions]]
    _fallback: ClassVar[Preset]

    def preset(self, name: str) -> tuple[str, Preset]:
        """Return a listed preset, or one for any other model file that Ultralytics ships or the user names.

        Raises:
            ConfigError: There is no such preset and no such model file.
        """
        if not name or name in self.info.presets:
            return super().preset(name)
        if name.endswith(".pt"):
            raise ConfigError(
                f"model.preset = {name!r}: weights belong in model.weights; a preset is a .yaml or a name"
            )
        self.architecture(name)
        return name, self._fallback

    def architecture(self, preset: str) -> dict[str, Any]:
        """Return the content of the model file, so that the checkpoint does not depend on it.

        Raises:
            ConfigError: There is no such model file.
        """
        tasks = load_ultralytics("ultralytics.nn.tasks")
        file_name = preset if preset.endswith((".yaml", ".yml")) else f"{preset}.yaml"
        try:
            content: dict[str, Any] = tasks.yaml_model_load(file_name)
        except (FileNotFoundError, OSError, AttributeError, TypeError):
            raise ConfigError(
                f"model.preset = {preset!r}: neither a preset ({', '.join(self.info.presets)}) nor a model file that "
                "Ultralytics ships nor a path to one"
            ) from None
        content["yaml_file"] = Path(content.get("yaml_file", "")).name
        return content

    def check_plan(self, plan: TrainingPlan) -> list[str]:
        """Return what does not fit: the size of the input."""
        size = plan.image_size_px
        if size % _STRIDE_PX or size < 2 * _STRIDE_PX:
            near = max(2 * _STRIDE_PX, round(size / _STRIDE_PX) * _STRIDE_PX)
            return [f"training.image_size_px = {size}: expected a multiple of {_STRIDE_PX} from 64 up; try {near}"]
        return []

    def inference_module(self, module: "nn.Module") -> "nn.Module":
        """Return the model with one output tensor: its head in export mode."""
        layer: Any
        for layer in module.modules():
            if hasattr(layer, "export"):
                layer.export = True
                layer.format = "onnx"
        return module.eval()

    def _build(self, model_class: str, plan: TrainingPlan) -> "nn.Module":
        tasks = load_ultralytics("ultralytics.nn.tasks")
        try:
            module: nn.Module = getattr(tasks, model_class)(
                copy.deepcopy(plan.architecture), nc=len(plan.classes), ch=3, verbose=False
            )
        except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
            raise ModelError(f"model.preset = {plan.preset!r}: the model file cannot be built: {error}") from None
        return module


class YoloDetection(YoloPlugin):
    """Object detection by Ultralytics YOLO."""

    info = PluginInfo(
        name="yolo-detection",
        task="detection",
        description="Object detection by Ultralytics YOLO, any of its model files.",
        licence="AGPL-3.0-only",
        extra="yolo",
        presets={
            "yolo11n": Preset("YOLO11 nano, 2.6 M parameters", 640, 16, 0.002),
            "yolo11s": Preset("YOLO11 small, 9.4 M parameters", 640, 16, 0.001),
            "yolo11m": Preset("YOLO11 medium, 20 M parameters", 640, 16, 0.001),
            "yolov8n": Preset("YOLOv8 nano, 3.2 M parameters", 640, 16, 0.002),
            "yolov8s": Preset("YOLOv8 small, 11 M parameters", 640, 16, 0.001),
            "yolo26n": Preset("YOLO26 nano, 2.4 M parameters", 640, 16, 0.002),
            "yolov10n": Preset("YOLOv10 nano, 2.3 M parameters, no suppression needed", 640, 16, 0.002),
        },
        default_preset="yolo11n",
        weights=_WEIGHTS,
    )
    options_model = YoloDetectionOptions
    _fallback = Preset("a model file", 640, 16, 0.001)

    def train(self, session: TrainingSession) -> None:
        """Train by Ultralytics' loop on the dataset unpacked into scratch space."""
        options = self.parse_options(session.plan.options)
        assert isinstance(options, YoloDetectionOptions)
        assert isinstance(session.dataset, Dataset)  # its task was compared with this plugin's
        data = detection_layout(session.dataset, session.scratch / "data")
        settings = options.settings(session.dataset.count("train"), session.plan.image_size_px)
        run_training(session, "detect", data, settings, session.scratch)

    def build(self, plan: TrainingPlan) -> "nn.Module":
        """Return the detector with random weights."""
        return self._build("DetectionModel", plan)

    def specs(self, plan: TrainingPlan, module: "nn.Module") -> tuple[PreprocessingSpec, Postprocessing]:
        """Return Ultralytics' letterbox, and the decoding of the head's layout."""
        head: Any = module.model[-1]  # type: ignore[index]
        size = plan.image_size_px
        return (
            PreprocessingSpec(resize="letterbox", size_hw=(size, size), interpolation="bilinear"),
            DetectionPostprocessing(layout="end2end" if getattr(head, "end2end", False) else "yolo"),
        )


class YoloClassification(YoloPlugin):
    """Image classification by Ultralytics YOLO."""

    info = PluginInfo(
        name="yolo-classification",
        task="classification",
        description="Image classification by Ultralytics YOLO, any of its model files.",
        licence="AGPL-3.0-only",
        extra="yolo",
        presets={
            "yolo11n-cls": Preset("YOLO11 nano, 1.6 M parameters", 224, 32, 0.001),
            "yolo11s-cls": Preset("YOLO11 small, 5.5 M parameters", 224, 32, 0.001),
            "yolov8n-cls": Preset("YOLOv8 nano, 1.5 M parameters", 224, 32, 0.001),
            "yolov8s-cls": Preset("YOLOv8 small, 5.1 M parameters", 224, 32, 0.001),
            "yolo26n-cls": Preset("YOLO26 nano, 1.6 M parameters", 224, 32, 0.001),
        },
        default_preset="yolo11n-cls",
        weights=_WEIGHTS,
    )
    options_model = YoloClassificationOptions
    _fallback = Preset("a model file", 224, 32, 0.001)

    def train(self, session: TrainingSession) -> None:
        """Train by Ultralytics' loop on the dataset unpacked into scratch space."""
        options = self.parse_options(session.plan.options)
        assert isinstance(options, YoloClassificationOptions)
        assert isinstance(session.dataset, Dataset)  # its task was compared with this plugin's
        data = classification_layout(session.dataset, session.scratch / "data")
        settings = options.settings(session.dataset.count("train"), session.plan.image_size_px)
        run_training(session, "classify", data, settings, session.scratch)

    def build(self, plan: TrainingPlan) -> "nn.Module":
        """Return the classifier with random weights."""
        return self._build("ClassificationModel", plan)

    def specs(self, plan: TrainingPlan, module: "nn.Module") -> tuple[PreprocessingSpec, Postprocessing]:
        """Return the shorter side scaled and the centre cut; the head ends with its own softmax."""
        size = plan.image_size_px
        preprocessing = PreprocessingSpec(
            resize="shorter_side_crop", size_hw=(size, size), shorter_side_px=size, interpolation="bilinear_antialias"
        )
        return preprocessing, ClassificationPostprocessing(activation="none")
