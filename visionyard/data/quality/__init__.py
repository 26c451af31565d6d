"""Suspects: labels and images that a person should look at before a training is paid for, and after one."""

from visionyard.data.quality.suspects import Mark, Suspect, SuspectReport

__all__ = ["Mark", "Suspect", "SuspectReport"]
