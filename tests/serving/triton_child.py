"""Asks a server by Triton's own client and prints the answers as JSON; run by test_tritonclient.

A process of its own, because Triton's and KServe's protobuf files define the same names and cannot meet in one.
Arguments: http or grpc, the address, the folder with image.jpg, pixels.npy and batch.npy.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(kind: str, address: str, folder: Path) -> dict[str, Any]:
    """Return all answers by what was asked."""
    triton: Any = importlib.import_module(f"tritonclient.{kind}")
    client = triton.InferenceServerClient(address)
    image = (folder / "image.jpg").read_bytes()
    pixels, batch = np.load(folder / "pixels.npy"), np.load(folder / "batch.npy")

    def tensor(name: str, values: np.ndarray, datatype: str) -> Any:
        made = triton.InferInput(name, list(values.shape), datatype)
        made.set_data_from_numpy(values)
        return made

    metadata = client.get_model_metadata("kinds")
    if kind == "grpc":
        metadata = {
            "inputs": [{"name": each.name} for each in metadata.inputs],
            "outputs": [{"name": each.name} for each in metadata.outputs],
        }
    own, raw = metadata["inputs"][1]["name"], metadata["outputs"][-1]["name"]
    wanted = [triton.InferRequestedOutput(name) for name in ("predictions", "xyxy")]
    boxes = client.infer(
        "boxes",
        [tensor("image", np.array([image], np.object_), "BYTES")],
        outputs=wanted,
        request_id="t-1",
        parameters={"confidence": 0.3},
    )
    two = client.infer("kinds", [tensor("image", np.array([image, image], np.object_), "BYTES")])
    error = ""
    try:
        client.infer("boxes", [tensor("image", np.array([b"nothing"], np.object_), "BYTES")])
    except importlib.import_module("tritonclient.utils").InferenceServerException as problem:
        error = str(problem)
    answers = {
        "is_ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("boxes")],
        "first_input": metadata["inputs"][0]["name"],
        "predictions": json.loads(boxes.as_numpy("predictions")[0]),
        "xyxy": boxes.as_numpy("xyxy").tolist(),
        "not_asked_for": boxes.as_numpy("class_id") is None,
        "shapes_of_two": [list(two.as_numpy("probabilities").shape), list(two.as_numpy("predictions").shape)],
        "pixels": client.infer("kinds", [tensor("image", pixels, "UINT8")]).as_numpy("probabilities").tolist(),
        "own": client.infer("kinds", [tensor(own, batch, "FP32")]).as_numpy(raw).tolist(),
        "error": error,
    }
    client.close()
    return answers


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
