"""What the pipeline costs beyond its stages: a run's wall time over the sum of its stages' own work.

    python benchmarks/orchestration.py runs/digits-detection-1

Read from the run's events; only runs that were done in one go tell anything.
"""

import argparse
from pathlib import Path

from visionyard.events import read_events


def main() -> None:
    """Print the table of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder")
    events = read_events(parser.parse_args().run / "events.jsonl")
    stages = {event["stage"]: event["elapsed_s"] for event in events if event["kind"] == "stage_finished"}
    ends = [event for event in events if event["kind"] == "run_finished"]
    if len(ends) != 1 or ends[0]["status"] != "done":
        raise SystemExit(f"expected a run done in one go, got {[event['status'] for event in ends]}")
    work, wall = sum(stages.values()), ends[0]["elapsed_s"]
    print("| stage | s |\n| --- | ---: |")
    for name, seconds in stages.items():
        print(f"| {name} | {seconds:.1f} |")
    print(f"| all stages | {work:.1f} |\n| the run | {wall:.1f} |\n| ratio | {wall / work:.3f} |")


if __name__ == "__main__":
    main()
