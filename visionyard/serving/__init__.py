"""The model server: an engine that answers requests from model bundles, and the protocols around it."""

from visionyard.serving.answers import ImageAnswer, RequestContext
from visionyard.serving.engine import ServedModel
from visionyard.serving.inputs import ImageInput
from visionyard.serving.options import PredictOptions
from visionyard.serving.store import ModelStore

__all__ = ["ImageAnswer", "ImageInput", "ModelStore", "PredictOptions", "RequestContext", "ServedModel"]
