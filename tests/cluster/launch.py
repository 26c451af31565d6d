"""Runs in a stage's pod, in place of KFP's launcher: fetches inputs, runs the stage's own command, uploads its outputs.

usage: launch.py EXECUTOR_INPUT RECORD_URI COMMAND...

Like KFP's: an artifact `s3://bucket/key` is the folder `/s3/bucket/key` in the pod, a stage that fails uploads nothing,
and what a task has put out is recorded, here at RECORD_URI, after all of it was uploaded.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionyard.storage import fetch_folder, upload_file, upload_folder, write_bytes


def artifacts(listed: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Return address and folder in the pod of each artifact."""
    for group in listed.get("artifacts", {}).values():
        for artifact in group["artifacts"]:
            yield artifact["uri"], Path("/s3") / artifact["uri"].removeprefix("s3://")


def run(command: list[str]) -> int:
    """Run a command, hand SIGTERM on to it and return its exit status."""
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    status = process.wait()
    return status if status >= 0 else 128 - status  # as a shell tells of a signal


def main(executor_input: dict[str, Any], record: str, command: list[str]) -> int:
    """Do what the module says and return the exit status."""
    for uri, path in artifacts(executor_input["inputs"]):
        fetch_folder(uri, path)
    for _uri, path in artifacts(executor_input["outputs"]):
        path.parent.mkdir(parents=True, exist_ok=True)
    if status := run(command):
        return status
    for uri, path in artifacts(executor_input["outputs"]):
        if path.is_dir():
            upload_folder(path, uri)
        elif path.exists():
            upload_file(path, uri)
    output = Path(executor_input["outputs"]["outputFile"])
    write_bytes(record, output.read_bytes() if output.exists() else b"{}")
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]))
