"""The Open Inference Protocol and v1 on our engine: KServe's model, repository and data plane, each a few lines.

KServe's `DataPlane` finds the model and calls it; the models here hand over to `ServedModel`. Two of its habits are left
out: a model that is not ready is not loaded by a request for it, and v1 answers are not written by FastAPI's deprecated
ORJSONResponse, which warns at each.
"""

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf.unknown_fields import UnknownFieldSet

from visionyard import __version__
from visionyard.config.serving_config import ServingConfig
from visionyard.errors import NotFoundError, RequestError, VisionyardError
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving import tensors
from visionyard.serving.answers import ImageAnswer, RequestContext
from visionyard.serving.arms import choose_arm
from visionyard.serving.engine import ServedModel
from visionyard.serving.inputs import ImageInput
from visionyard.serving.kserve_sdk import (
    DataPlane,
    InferOutput,
    InferRequest,
    InferResponse,
    Model,
    ModelNotReady,
    ModelRepository,
    ModelRepositoryExtension,
    pb,
)
from visionyard.serving.options import PredictOptions
from visionyard.serving.payloads import PayloadReader
from visionyard.serving.requests import InFlight, RequestInfo, current_request
from visionyard.serving.store import ModelStore

# What protocols and their clients put among the parameters of a request.
_PROTOCOL_PARAMETERS = frozenset({"binary_data_output", "priority", "timeout"})
_LOADING = "The server is loading its models; try again."
# Of Triton's parameters; KServe's protobuf does not know the two, but keeps them among the unknown fields.
_DOUBLE_FIELD, _UINT64_FIELD = 4, 5


class Answering:
    """Finds the model for a request and asks it: the one way that every route and protocol goes."""

    def __init__(self, store: ModelStore, config: ServingConfig, metrics: ServingMetrics) -> None:
        """Put the parts together.

        Args:
            store: The models.
            config: Limits and the A/B split.
            metrics: Where arms are counted.
        """
        self.store = store
        self._config = config
        self._metrics = metrics

    def find(self, name: str, info: RequestInfo) -> ServedModel:
        """Return the model that answers to a name, which may be an A/B split; the request remembers it.

        Args:
            name: From the request; empty where only one is served.
            info: The request.

        Raises:
            NotFoundError: No such model.
            RequestError: It names none, or an arm that is not there.
            ModelNotReady: It is not warm yet, or going.
        """
        name = name or self._only_name()
        arms = self._config.arms
        if arms.name and name == arms.name:
            arm = choose_arm(arms, info.headers)
            self._metrics.arm_requests.labels(name, arm).inc()
            name = arm
        try:
            model = self.store.get(name)
        except NotFoundError:
            if self.store.is_ready:
                raise
            raise ModelNotReady(name[:64], _LOADING) from None
        info.model = model.name
        if not model.is_ready:
            raise ModelNotReady(model.name)
        return model

    async def predict(
        self,
        model: ServedModel,
        images: list[ImageInput],
        parameters: Mapping[str, object],
        info: RequestInfo,
        *,
        keep_images: bool = False,
    ) -> list[ImageAnswer]:
        """Look at images; errors as `ServedModel.predict` raises them, and for parameters out of range."""
        options = PredictOptions.from_values(parameters, self._config.limits)
        info.image_count = len(images)
        context = RequestContext(
            info.request_id,
            "grpc" if info.protocol == "grpc" else "http",
            info.headers.get(self._config.sampling.group_header.lower(), "")[:128],
        )
        return await model.predict(
            images, options=options, deadline=info.deadline, keep_images=keep_images, context=context
        )

    async def infer(self, model: ServedModel, request: InferRequest, info: RequestInfo) -> list[InferOutput]:
        """Answer a v2 request: images by their predictions, the model's own input by its raw outputs.

        Raises:
            RequestError: The tensors or the outputs asked for are not those of the model.
        """
        if len(request.inputs) != 1:
            raise RequestError(f"expected one input tensor, got {len(request.inputs)}; {_known_inputs(model)}")
        given = request.inputs[0]
        parameters = _options_of(request)
        if tensors.is_image(given):
            images = await _off_loop(given, tensors.read_images)
            outputs = tensors.answers_to_outputs(await self.predict(model, images, parameters, info), model.classes)
        elif given.name == model.manifest.input.name:
            if parameters:
                raise RequestError(f"parameters {', '.join(parameters)[:80]}: a raw tensor is answered as it is")
            rows = await _off_loop(given, tensors.read_tensor)
            if isinstance(rows, list):
                raise RequestError(f"input {given.name!r}: expected FP32, got BYTES; encoded files go to 'image'")
            info.image_count = len(rows) if rows.ndim else 0
            outputs = tensors.rows_to_outputs(await model.infer(rows, deadline=info.deadline), model.manifest)
        else:
            raise RequestError(
                f"input {given.name[:64]!r} of {given.datatype[:20]}: not an input of {model.name}; "
                f"{_known_inputs(model)}"
            )
        return _chosen(outputs, request)

    def _only_name(self) -> str:
        if self._config.arms.name:
            return self._config.arms.name
        names = self.store.names()
        if len(names) > 1:
            raise RequestError(f"several models are served; name one of {', '.join(names)}")
        return names[0] if names else ""


class YardModel(Model):  # type: ignore[misc]  # KServe has no type information
    """What KServe calls for a model's name; it lives for one request."""

    def __init__(self, name: str, answering: Answering, reader: PayloadReader) -> None:
        """Stand for a name."""
        super().__init__(name)
        self._answering = answering
        self._reader = reader

    async def healthy(self) -> bool:
        """Whether the model behind the name is warm."""
        return self._answering.store.get(self.name).is_ready

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return what it takes."""
        return tensors.describe_inputs(self._answering.store.get(self.name).manifest)

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return what it answers."""
        return tensors.describe_outputs(self._answering.store.get(self.name).manifest)

    async def predict(
        self,
        payload: InferRequest | dict[str, Any],
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse | dict[str, Any]:
        """Answer a request of v2 (REST or gRPC) or v1."""
        info = current_request()
        model = self._answering.find(self.name, info)
        if isinstance(payload, InferRequest):
            outputs = await self._answering.infer(model, payload, info)
            return InferResponse(payload.id or info.request_id, self.name, outputs)
        read = await self._reader.read(payload, "instances")
        answers = await self._answering.predict(model, read.images, read.parameters, info)
        return {"predictions": [answer.to_json(model.classes) for answer in answers]}


class YardRepository(ModelRepository):  # type: ignore[misc]
    """KServe's list of models, read from the store."""

    def __init__(self, answering: Answering, reader: PayloadReader, config: ServingConfig) -> None:
        """Look into a store."""
        super().__init__()
        self._answering = answering
        self._reader = reader
        self._arms = config.arms

    def get_model(self, name: str) -> YardModel | None:
        """Return what answers to a name."""
        return YardModel(name, self._answering, self._reader) if name in self._names() else None

    def get_models(self) -> dict[str, YardModel]:
        """Return all of them by name."""
        return {name: YardModel(name, self._answering, self._reader) for name in self._names()}

    async def is_model_ready(self, name: str) -> bool:
        """Whether a model, or every arm of a split, is warm."""
        store = self._answering.store
        wanted = list(self._arms.weights) if name and name == self._arms.name else [name]
        return all(each in store.names() and store.get(each).is_ready for each in wanted)

    def _names(self) -> list[str]:
        return sorted({*self._answering.store.names(), *([self._arms.name] if self._arms.name else [])})


class YardRepositoryExtension(ModelRepositoryExtension):  # type: ignore[misc]
    """Loads and unloads models by name; only those of the config, never a path that a caller names."""

    def __init__(self, repository: YardRepository, store: ModelStore) -> None:
        """Act on a store."""
        super().__init__(repository)
        self._store = store

    async def load(self, model_name: str) -> dict[str, Any]:
        """Load a model again, or one that was unloaded; the answer is what KServe's gRPC servicer reads.

        Raises:
            NotFoundError: The config has no such model.
            VisionyardError: The bundle was refused.
        """
        known = self._store.known()
        if model_name not in known:
            raise NotFoundError(f"model {model_name[:64]!r}: not in the config; known: {', '.join(known) or 'none'}")
        try:
            await self._store.load(known[model_name])
        except VisionyardError as error:
            raise ModelNotReady(model_name, str(error)) from error
        return {"name": model_name, "load": True}

    async def unload(self, model_name: str) -> dict[str, Any]:
        """Stop serving a model once its requests are finished.

        Raises:
            NotFoundError: It is not served.
        """
        await self._store.unload(model_name)
        return {"name": model_name, "unload": True}


class YardDataPlane(DataPlane):  # type: ignore[misc]
    """KServe's data plane, ready only when every model is and the server is not stopping."""

    def __init__(self, repository: YardRepository, store: ModelStore, in_flight: InFlight) -> None:
        """Put the parts together."""
        super().__init__(repository)
        self._server_name = "visionyard"
        self._server_version = __version__
        self._store = store
        self._in_flight = in_flight

    async def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self._store.is_ready and not self._in_flight.is_draining

    def metadata(self) -> dict[str, Any]:
        """Return the server's name, version and extensions."""
        return {**super().metadata(), "extensions": ["model_repository_extension", "binary_tensor_data"]}

    async def get_model(self, name: str) -> YardModel:
        """Return a model; unlike KServe's own, never load one."""
        found: YardModel = self.get_model_from_registry(name)
        return found

    def get_model_from_registry(self, name: str) -> YardModel:
        """Return a model.

        Raises:
            NotFoundError: There is none of this name; lists those that are.
        """
        model = self.model_registry.get_model(name)
        if model is None:
            if not self._store.is_ready:
                raise ModelNotReady(name[:64], _LOADING)
            names = ", ".join(self._store.names()) or "none"
            raise NotFoundError(f"model {name[:64]!r}: not served here; served: {names}")
        found: YardModel = model
        return found

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Return inputs and outputs of a model."""
        return {**await super().model_metadata(model_name), "platform": "visionyard"}

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        """Whether a model is warm.

        Raises:
            NotFoundError: There is none of this name.
        """
        self.get_model_from_registry(model_name)
        is_ready: bool = await self.model_registry.is_model_ready(model_name)
        # Before a prediction KServe asks with the flag set; that request was admitted and is to be answered.
        return is_ready and (disable_predictor_health_check or not self._in_flight.is_draining)

    def decode(self, body: Any, headers: dict[str, str], *arguments: Any, **values: Any) -> Any:
        """Read a v1 body; what is no JSON and no CloudEvent is refused.

        Raises:
            RequestError: It is neither.
        """
        if isinstance(body, bytes) and not _is_cloud_event(headers):
            try:
                return orjson.loads(body), {}
            except orjson.JSONDecodeError as error:
                raise RequestError(f"the body is no JSON: {error}") from None
        try:
            return super().decode(body, headers, *arguments, **values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RequestError(f"not a CloudEvent that can be read: {type(error).__name__}") from None

    def encode(self, model_name: str, response: Any, headers: dict[str, str], req_attributes: dict[str, Any]) -> Any:
        """Write a v1 answer as bytes, which KServe's route sends as they are."""
        if _is_cloud_event(headers):
            return super().encode(model_name, response, headers, req_attributes)
        return orjson.dumps(response), {"content-type": "application/json"}


def _is_cloud_event(headers: Mapping[str, str]) -> bool:
    return "ce-specversion" in headers or "cloudevents" in headers.get("content-type", "")


def _options_of(request: InferRequest) -> dict[str, object]:
    given: dict[str, object] = {}
    for name, value in (request.parameters or {}).items():
        if name not in _PROTOCOL_PARAMETERS:
            given[name] = _grpc_value(value) if isinstance(value, pb.InferParameter) else value
    return given


def _grpc_value(value: Any) -> object:
    kind = value.WhichOneof("parameter_choice")
    if kind is not None:
        return getattr(value, kind)
    for field in UnknownFieldSet(value):
        if field.field_number == _DOUBLE_FIELD:
            return struct.unpack("<d", struct.pack("<Q", field.data))[0]
        if field.field_number == _UINT64_FIELD:
            return field.data
    return None


def _chosen(outputs: list[InferOutput], request: InferRequest) -> list[InferOutput]:
    if not request.request_outputs:
        return outputs
    by_name = {output.name: output for output in outputs}
    missing = [output.name for output in request.request_outputs if output.name not in by_name]
    if missing:
        raise RequestError(f"outputs {', '.join(missing)[:80]}: not given here; known: {', '.join(by_name)}")
    return [by_name[output.name] for output in request.request_outputs]


def _known_inputs(model: ServedModel) -> str:
    own = model.manifest.input
    return f"known: 'image' (BYTES [N] or UINT8 [H, W, 3]), {own.name!r} (FP32 {own.shape})"


async def _off_loop(given: Any, read: Any) -> Any:
    """Read a tensor; lists of many numbers in a thread, views on bytes at once."""
    if given._raw_data is None and isinstance(given.data, list):
        return await asyncio.to_thread(read, given)
    return read(given)
