"""ONNX files made by hand, whose output is known before."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def write_onnx_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an ONNX file which answers with given rows, whatever it is shown."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    def write(
        outputs: Mapping[str, Any],
        *,
        input_shape: tuple[Any, ...] = ("N", 3, 32, 48),
        input_type: int = TensorProto.FLOAT,
        extra_input: bool = False,
        is_batch_honest: bool = True,
        name: str = "made.onnx",
    ) -> Path:
        # One zero for each image of the batch, which the rows are added to.
        nodes = [
            helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["numbers", "axes"], ["sums"], keepdims=0),
            helper.make_node("Mul", ["sums", "zero"], ["zeros"]),
        ]
        constants = {"axes": np.array([1, 2, 3]), "zero": np.zeros(1, np.float32), "one": np.array([1])}
        declared = []
        for output, rows in outputs.items():
            array = np.asarray(rows, np.float32)
            shape = np.array([-1 if is_batch_honest else 1] + [1] * array.ndim)
            constants |= {f"{output}_rows": array, f"{output}_shape": shape}
            nodes.append(helper.make_node("Reshape", ["zeros", f"{output}_shape"], [f"{output}_zeros"]))
            nodes.append(helper.make_node("Add", [f"{output}_zeros", f"{output}_rows"], [output]))
            declared.append(
                helper.make_tensor_value_info(output, TensorProto.FLOAT, [input_shape[0], *map(int, array.shape)])
            )
        inputs = [helper.make_tensor_value_info("images", input_type, list(input_shape))]
        if extra_input:
            inputs.append(helper.make_tensor_value_info("sizes", TensorProto.FLOAT, [1, 2]))
        initialisers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
        graph = helper.make_graph(nodes, "made", inputs, declared, initialisers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        checker.check_model(model)
        path = tmp_path / name
        save(model, str(path))
        return path

    return write
