"""The one place that imports KServe's SDK (0.21), without what a model server has no use for.

Its package loads the Kubernetes client and a hundred classes of Kubernetes objects, and pandas for two helpers that
turn tensors into data frames; its `model_server` parses `sys.argv` when it is imported and ends the process when it
does not like what it reads. So while it is imported here, an empty package stands in for `kserve`, an empty module
for `pandas`, and the command line is hidden. Afterwards both stand-ins are gone: a later `import kserve` by somebody
else gets all of it, with these very classes.

Seconds, modules in `sys.modules` after it, three runs each on a lightly loaded machine of two cores:

    import kserve                                  3.59  3.11  3.53   2356 modules, kubernetes and pandas among them
    with the empty package                         1.96  2.21  2.02   1187 modules, pandas among them
    with the empty package and no pandas (here)    1.05  1.09  1.13    845 modules
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from visionyard.errors import ConfigError


@contextmanager
def _stand_in(name: str, module: ModuleType) -> Iterator[None]:
    """Let `import name` find a module for a while; one that is already there stays."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _hidden_command_line() -> Iterator[None]:
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def _bare_package() -> ModuleType:
    spec = importlib.util.find_spec("kserve")
    if spec is None or spec.submodule_search_locations is None:
        raise ConfigError("serving needs kserve; pip install 'visionyard[serve]'")
    package = ModuleType("kserve")
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    return package


def _no_data_frames() -> ModuleType:
    module = ModuleType("pandas")
    for name in ("DataFrame", "Series"):  # what annotations name
        setattr(module, name, type(name, (), {}))
    return module


with (
    _hidden_command_line(),
    _stand_in("kserve", sys.modules.get("kserve") or _bare_package()),
    _stand_in("pandas", sys.modules.get("pandas") or _no_data_frames()),
):
    from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady, UnsupportedProtocol
    from kserve.model import Model
    from kserve.model_repository import ModelRepository
    from kserve.model_server import ModelServer
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
        GRPCInferenceServiceStub,
        add_GRPCInferenceServiceServicer_to_server,
    )
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.infer_type import (
        InferInput,
        InferOutput,
        InferRequest,
        InferResponse,
        RequestedOutput,
    )
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import _RefreshingServer as RefreshingServer
    from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
    from kserve.protocol.rest.v2_endpoints import register_v2_endpoints

__all__ = [
    "DataPlane",
    "GRPCInferenceServiceStub",
    "InferInput",
    "InferOutput",
    "InferRequest",
    "InferResponse",
    "InferenceServicer",
    "InvalidInput",
    "Model",
    "ModelNotFound",
    "ModelNotReady",
    "ModelRepository",
    "ModelRepositoryExtension",
    "ModelServer",
    "RefreshingServer",
    "RequestedOutput",
    "ServerNotReady",
    "UnsupportedProtocol",
    "add_GRPCInferenceServiceServicer_to_server",
    "pb",
    "register_v1_endpoints",
    "register_v2_endpoints",
]
