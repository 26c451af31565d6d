"""Export: a trained model as a bundle, with proof that each format answers as the trained one does."""

from visionyard.export.exporting import ExportReport, Origin, export_model, export_trained
from visionyard.export.parity import Certificate, FormatResult, Row, Tolerances

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
