"""The command line: `visionyard`. Nothing heavy is imported until a command needs it."""

from visionyard.cli.app import main

__all__ = ["main"]
