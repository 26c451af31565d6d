"""`python -m visionyard` is the command `visionyard`."""

from visionyard.cli import main

main()
