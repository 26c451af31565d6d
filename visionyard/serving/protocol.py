"""The Open Inference Protocol and v1 on our engine: KServe's model, repository and data plane, each a few lines.

KServe's `DataPlane` finds the model and calls it; the models here hand over to `ServedModel`. Two of its habits are
left out: a model that is not ready is not loaded by a request for it, and v1 answers are not written by FastAPI's
deprecated ORJSONResponse, which warns at each.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from visionyard import __version__
from visionyard.config.serving_config import ServingConfig
from visionyard.errors import NotFoundError, RequestError, VisionyardError
from visionyard.serving import output_tensors, tensors
from visionyard.serving.answering import LOADING, Answering
from visionyard.serving.kserve_sdk import (
    DataPlane,
    InferRequest,
    InferResponse,
    Model,
    ModelNotReady,
    ModelRepository,
    ModelRepositoryExtension,
)
from visionyard.serving.payloads import PayloadReader
from visionyard.serving.requests import InFlight, current_request
from visionyard.serving.rows import describe_columns, read_json_rows, rows_of
from visionyard.serving.store import ModelStore


class YardModel(Model):  # type: ignore[misc]  # KServe has no type information
    """What KServe calls for a model's name; it lives for one request."""

    def __init__(self, name: str, answering: Answering, reader: PayloadReader) -> None:
        """Stand for a name."""
        super().__init__(name)
        self._answering = answering
        self._reader = reader

    async def healthy(self) -> bool:
        """Whether the model behind the name is warm."""
        return all(model.is_ready for model in self._answering.behind(self.name))

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return what it takes."""
        manifest = self._answering.behind(self.name)[0].manifest
        before = rows_of(manifest)
        return tensors.describe_inputs(manifest) if before is None else describe_columns(before)

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return what it answers."""
        manifest = self._answering.behind(self.name)[0].manifest
        named = output_tensors.describe_outputs(manifest)
        # What a model of rows gives for its own input no one sees: rows go in by their columns.
        return named if rows_of(manifest) is None else named[: -len(manifest.outputs)]

    async def explain(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        """Refuse: there is no explainer.

        Raises:
            NotFoundError: Always.
        """
        raise NotFoundError("this server has no explainer; use :predict")

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
        if model.takes_rows:
            rows = read_json_rows(payload, "instances", self._answering.limits.max_rows)
            found = await self._answering.predict_rows(model, rows, rows.parameters, info)
            return {"predictions": await asyncio.to_thread(lambda: [each.to_json(model.classes) for each in found])}
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
                raise ModelNotReady(name[:64], LOADING)
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
