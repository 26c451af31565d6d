"""Send a picture to the model server and look at its answer. Usage: check_server.py URL."""

import json
import os
import struct
import sys
import urllib.error
import urllib.request
import zlib
from pathlib import Path


def picture(width: int = 64, height: int = 48) -> bytes:
    """Return a grey PNG, made without an image library."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes([128]) * width for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def main(url: str) -> None:
    """Check a model server.

    Args:
        url: Its address.
    """
    request = urllib.request.Request(f"{url}/predict", data=picture(), headers={"Content-Type": "image/png"})  # noqa: S310
    if os.environ.get("KEYS_FILE"):
        line = Path(os.environ["KEYS_FILE"]).read_text(encoding="utf-8").split()[0]
        request.add_header("X-API-Key", line.rpartition(":")[2])
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            result = json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"POST {url}/predict: {error.code} {error.read()[:500].decode(errors='replace')}")
    prediction = result["predictions"][0]
    if "class" not in prediction and (prediction["width"], prediction["height"]) != (64, 48):
        sys.exit(f"POST {url}/predict: expected a prediction for 64 x 48 pixels, got {prediction}")
    print(f"{url}: model {result['model']} answered {json.dumps(prediction)[:200]}")


if __name__ == "__main__":
    main(sys.argv[1])
