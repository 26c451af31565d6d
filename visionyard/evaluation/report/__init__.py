"""The report: one self-contained page about data, training, test results, parity and speed."""

from visionyard.evaluation.report.build import build_report

__all__ = ["build_report"]
