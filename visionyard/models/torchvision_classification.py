"""The torchvision plugin: image classification, trained by the platform's own loop."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from visionyard.config import Section
from visionyard.errors import ModelError
from visionyard.models.plugin import ModelPlugin, PluginInfo, Preset, Recipe, TrainingPlan, TrainingSession
from visionyard.models.weights import read_weights, transfer_weights
from visionyard.transforms import ClassificationPostprocessing, Postprocessing, PreprocessingSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

# Means and deviations of ImageNet's RGB, which all of torchvision's weights were trained with.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
# PyTorch's default.
_BATCH_NORM_MOMENTUM = 0.1
# torchvision's own evaluation scales the shorter side to 256 and cuts 224.
_SHORTER_SIDE_RATIO = 256 / 224


class TorchvisionOptions(Section):
    """Options of torchvision-classification."""

    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Probability taken from the true class.")
    flip_horizontal: float = Field(0.5, ge=0, le=1, description="Share of mirrored images; 0 for text or digits.")
    smallest_crop: float = Field(0.5, gt=0, le=1, description="Smallest training crop, as a share of the image's area.")
    colour_jitter: float = Field(0.2, ge=0, le=1, description="Change of brightness, contrast and saturation.")
    policy: Literal["none", "randaugment", "trivialaugment"] = Field("none", description="A ready augmentation policy.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout before the last layer, where the model has one.")


class TorchvisionClassification(ModelPlugin):
    """Image classification with torchvision's architectures."""

    info: ClassVar[PluginInfo] = PluginInfo(
        name="torchvision-classification",
        task="classification",
        description="Image classification with torchvision's architectures, by Visionyard's own training loop.",
        licence="BSD-3-Clause",
        extra="train",
        presets={
            "resnet18": Preset("ResNet-18, 11.7 M parameters", 224, 32, 0.001),
            "mobilenet_v3_small": Preset("MobileNetV3 small, 2.5 M parameters", 224, 32, 0.002),
            "mobilenet_v2": Preset("MobileNetV2, 3.5 M parameters", 224, 32, 0.001),
        },
        default_preset="resnet18",
        weights="A state dict as a path or s3:// address, or IMAGENET1K_V1, which torchvision downloads.",
    )
    options_model = TorchvisionOptions

    def check_weights_name(self, name: str) -> bool:
        """Return whether it is a name of torchvision's weights, such as IMAGENET1K_V1."""
        return name.startswith("IMAGENET1K_")

    def train(self, session: TrainingSession) -> None:
        """Train by the platform's loop."""
        from torch import nn

        plan = session.plan
        options = self.parse_options(plan.options)
        assert isinstance(options, TorchvisionOptions)
        module = self.build(plan)
        if session.resume is None:
            self._start_from(module, session)
        preprocessing, _ = self.specs(plan, module)
        session.fit(
            Recipe(
                module=module,
                loss=nn.CrossEntropyLoss(label_smoothing=options.label_smoothing),
                augment=_Augmentation(options, plan.image_size_px),
                preprocessing=preprocessing,
            )
        )

    def build(self, plan: TrainingPlan) -> "nn.Module":
        """Return the architecture with random weights."""
        from torch import nn
        from torchvision import models

        options = self.parse_options(plan.options)
        assert isinstance(options, TorchvisionOptions)
        dropout = {} if plan.preset.startswith("resnet") else {"dropout": options.dropout}
        module: nn.Module = getattr(models, plan.preset)(weights=None, num_classes=len(plan.classes), **dropout)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                # torchvision's MobileNetV3 has 0.01, whose averages need thousands of steps to forget their start: on
                # 200 images the trained model then fails although its training loss falls.
                layer.momentum = _BATCH_NORM_MOMENTUM
        return module

    def specs(self, plan: TrainingPlan, module: "nn.Module") -> tuple[PreprocessingSpec, Postprocessing]:
        """Return torchvision's evaluation transform, and softmax."""
        size = plan.image_size_px
        preprocessing = PreprocessingSpec(
            resize="shorter_side_crop",
            size_hw=(size, size),
            shorter_side_px=round(size * _SHORTER_SIDE_RATIO),
            interpolation="bilinear_antialias",
            mean=_MEAN,
            std=_STD,
        )
        return preprocessing, ClassificationPostprocessing(activation="softmax")

    def _start_from(self, module: "nn.Module", session: TrainingSession) -> None:
        name = session.plan.weights
        if session.weights is not None:
            transfer_weights(module, read_weights(session.weights), source=session.weights)
        elif name:
            _load_named(module, session.plan.preset, name)


def _load_named(module: "nn.Module", preset: str, name: str) -> None:
    from pathlib import Path
    from urllib.error import URLError

    from torchvision import models

    try:
        state = models.get_weight(f"{_weights_enum(preset)}.{name}").get_state_dict(progress=False)
    except (ValueError, KeyError):
        raise ModelError(f"model.weights = {name!r}: torchvision has no such weights for {preset}") from None
    except (URLError, OSError) as error:
        raise ModelError(
            f"model.weights = {name!r}: torchvision could not download them ({error}); fetch the .pth file by other "
            "means and give its path"
        ) from None
    transfer_weights(module, state, source=Path(name))


def _weights_enum(preset: str) -> str:
    names = {"resnet18": "ResNet18", "mobilenet_v3_small": "MobileNet_V3_Small", "mobilenet_v2": "MobileNet_V2"}
    return f"{names[preset]}_Weights"


class _Augmentation:
    """A training transform that can be sent to loader processes."""

    def __init__(self, options: TorchvisionOptions, size_px: int) -> None:
        import torch
        from torchvision.transforms import v2

        policies: dict[str, list[nn.Module]] = {
            "none": [],
            "randaugment": [v2.RandAugment()],
            "trivialaugment": [v2.TrivialAugmentWide()],
        }
        jitter = options.colour_jitter
        self._transform = v2.Compose(
            [
                v2.RandomResizedCrop(size_px, scale=(options.smallest_crop, 1.0), antialias=True),
                v2.RandomHorizontalFlip(options.flip_horizontal),
                *policies[options.policy],
                v2.ColorJitter(jitter, jitter, jitter),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(_MEAN, _STD),
            ]
        )

    def __call__(self, image: "np.ndarray") -> "Tensor":
        """Return a (3, size, size) float32 tensor of a (H, W, 3) uint8 RGB image."""
        import torch
        from torchvision.tv_tensors import Image

        # A view of the pixels as they lie: v2.ToImage copies them channel by channel, and cropping them is slower then.
        tensor: Tensor = self._transform(Image(torch.from_numpy(image).permute(2, 0, 1)))
        return tensor
