"""Running a trained or exported model on images, and the model bundle that an exported one lives in."""

from visionyard.inference.backends import Backend, TorchBackend, TorchScriptBackend, load_backend
from visionyard.inference.bundle import Bundle, BundleManifest
from visionyard.inference.choice import FormatChoice, choose_format
from visionyard.inference.drawing import draw_prediction
from visionyard.inference.onnx_backend import OnnxBackend, OnnxOptions
from visionyard.inference.paths import PathPrediction, predict_paths, prediction_to_json
from visionyard.inference.predictor import Predictor

__all__ = [
    "Backend",
    "Bundle",
    "BundleManifest",
    "FormatChoice",
    "OnnxBackend",
    "OnnxOptions",
    "PathPrediction",
    "Predictor",
    "TorchBackend",
    "TorchScriptBackend",
    "choose_format",
    "draw_prediction",
    "load_backend",
    "predict_paths",
    "prediction_to_json",
]
