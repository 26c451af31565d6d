"""Make the sample clips that the ready configs train on; nothing is fetched.

python examples/make_sample.py digits-detection --out sample/digits-detection
"""

import argparse
import sys
from pathlib import Path

from visionyard.data.sample import LAYOUTS, make_sample
from visionyard.errors import ConfigError, VisionyardError


def main() -> int:
    """Make one sample; return 0 when done, 1 when it failed, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=sorted(LAYOUTS))
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    parser.add_argument("--clips", type=int, default=None, help="clips in all (default: as the ready config needs)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other clips (default: %(default)s)")
    given = parser.parse_args()
    try:
        report = make_sample(given.out, kind=given.kind, clip_count=given.clips, clip_s=given.seconds, seed=given.seed)
    except VisionyardError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    print(
        f"{report.folder}: {report.clip_count} clips, {report.frame_count} frames, {report.track_count} tracks, "
        f"{report.size_bytes / 1e6:.1f} MB; classes {', '.join(report.classes)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
