"""Asks a server for masks and keypoints by Triton's own client and prints the answers; run by test_instance_tensors.

A process of its own, as `triton_child`. Arguments: http or grpc, the address, the folder with the images.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(kind: str, address: str, folder: Path) -> dict[str, Any]:
    """Return what the server answers about all images in one request."""
    triton: Any = importlib.import_module(f"tritonclient.{kind}")
    client = triton.InferenceServerClient(address)
    images = np.array([path.read_bytes() for path in sorted(folder.iterdir())], np.object_)
    tensor = triton.InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(images)
    named = [triton.InferRequestedOutput(name) for name in ("masks", "mask_pixels", "image_hw", "image_index")]
    discs = client.infer("discs", [tensor], outputs=named)
    points = client.infer("points", [tensor])
    answers = {
        "masks": [each.decode() for each in discs.as_numpy("masks")],
        "mask_pixels": np.packbits(discs.as_numpy("mask_pixels")).tobytes().hex(),
        "mask_dtype": str(discs.as_numpy("mask_pixels").dtype),
        "mask_shape": discs.as_numpy("mask_pixels").shape,
        "image_hw": discs.as_numpy("image_hw").tolist(),
        "image_index": discs.as_numpy("image_index").tolist(),
        "keypoints": points.as_numpy("keypoints").tolist(),
    }
    client.close()
    return answers


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
