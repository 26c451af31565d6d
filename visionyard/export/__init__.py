"""Export: a trained model as a bundle, with proof that each format answers as the trained one does."""

from visionyard.export.certificate import Certificate, FormatResult, Row
from visionyard.export.exporting import ExportReport, Origin, export_model, export_trained
from visionyard.export.tolerances import Tolerances

__all__ = [
    "Certificate",
    "ExportReport",
    "FormatResult",
    "Origin",
    "Row",
    "Tolerances",
    "export_model",
    "export_trained",
]
