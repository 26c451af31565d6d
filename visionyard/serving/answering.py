"""The one way that every route and protocol goes: find the model, check what is asked, let the engine answer."""

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from visionyard.config.serving_config import LimitsConfig, ServingConfig
from visionyard.errors import NotFoundError, RequestError
from visionyard.inference.paths import TOP_COUNT
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving import output_tensors, tensors
from visionyard.serving.answers import ImageAnswer, RequestContext
from visionyard.serving.arms import choose_arm
from visionyard.serving.binary_tensors import is_binary
from visionyard.serving.engine import ServedModel
from visionyard.serving.inputs import ImageInput
from visionyard.serving.kserve_sdk import InferOutput, InferRequest, ModelNotReady, pb
from visionyard.serving.options import DEFAULT_OPTIONS, PredictOptions
from visionyard.serving.requests import RequestInfo
from visionyard.serving.rows import FORM, RowAnswer, RowPayload, read_columns, rows_of
from visionyard.serving.second_opinion import SecondOpinion
from visionyard.serving.store import ModelStore

LOADING = "The server is loading its models; try again."
# What protocols and their clients put among the parameters of a request.
_PROTOCOL_PARAMETERS = frozenset({"binary_data_output", "priority", "timeout"})
# Of Triton's parameters; KServe's protobuf does not know the two, but keeps them among the unknown fields.
_DOUBLE_FIELD, _UINT64_FIELD = 4, 5
# In JSON a pixel of a mask is the word false and a comma.
_JSON_BYTES_A_PIXEL = 6


class Answering:
    """Finds the model for a request and asks it."""

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
        self._second_opinion = SecondOpinion(store, config)

    @property
    def limits(self) -> LimitsConfig:
        """What a request may ask for."""
        return self._config.limits

    @property
    def has_tables(self) -> bool:
        """Whether a model is served that looks at rows of a table."""
        return any(self.store.get(name).takes_rows for name in self.store.names())

    @property
    def has_only_tables(self) -> bool:
        """Whether models are served, and all of them look at rows of a table."""
        names = self.store.names()
        return bool(names) and all(self.store.get(name).takes_rows for name in names)

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
            raise ModelNotReady(name[:64], LOADING) from None
        info.model = model.name
        if not model.is_ready:
            raise ModelNotReady(model.name)
        return model

    def behind(self, name: str) -> list[ServedModel]:
        """Return the model of a name, or every arm of a split.

        Raises:
            NotFoundError: One of them is not served.
        """
        arms = self._config.arms
        return [self.store.get(each) for each in (sorted(arms.weights) if name and name == arms.name else [name])]

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
        if model.takes_rows:
            raise RequestError(f"model {model.name} looks at rows of a table, not at images; send {FORM}")
        options = PredictOptions.from_values(parameters, self._config.limits)
        info.image_count = len(images)
        context = RequestContext(
            info.request_id,
            "grpc" if info.protocol == "grpc" else "http",
            info.headers.get(self._config.sampling.group_header.lower(), "")[:128],
        )
        answers = await model.predict(
            images, options=options, deadline=info.deadline, keep_images=keep_images, context=context
        )
        if options == DEFAULT_OPTIONS:  # another threshold makes another answer of the same model
            self._second_opinion.consider(model, images, answers, context)
        return answers

    async def predict_rows(
        self, model: ServedModel, payload: RowPayload, parameters: Mapping[str, object], info: RequestInfo
    ) -> list[RowAnswer]:
        """Look at rows; errors as `ServedModel.predict_rows` raises them, and for parameters out of range."""
        if not model.takes_rows:
            raise RequestError(f"model {model.name} looks at images, not at rows of a table; send an image")
        options = PredictOptions.from_values(parameters, self._config.limits)
        info.image_count = len(payload.rows)
        found = await model.predict_rows(payload.rows, deadline=info.deadline)
        top_k = TOP_COUNT if options.top_k is None else options.top_k
        return [RowAnswer(prediction, top_k) for prediction in found]

    async def infer(self, model: ServedModel, request: InferRequest, info: RequestInfo) -> list[InferOutput]:
        """Answer a v2 request: images and rows by their predictions, a model's own input by its raw outputs.

        Raises:
            RequestError: The tensors or the outputs asked for are not those of the model.
        """
        if before := rows_of(model.manifest):
            rows = await asyncio.to_thread(read_columns, request.inputs, before, self.limits.max_rows)
            answers_of_rows = await self.predict_rows(model, RowPayload(rows, {}), _options_of(request), info)
            asked = _names(request)
            return await asyncio.to_thread(output_tensors.row_answers_to_outputs, answers_of_rows, model.classes, asked)
        if len(request.inputs) != 1:
            raise RequestError(f"expected one input tensor, got {len(request.inputs)}; {_known_inputs(model)}")
        given = request.inputs[0]
        parameters = _options_of(request)
        names = _names(request)
        if tensors.is_image(given):
            images = await _off_loop(given, lambda tensor: tensors.read_images(tensor, self._config.limits.max_images))
            answers = await self.predict(model, images, parameters, info)
            outputs = await self._to_outputs(answers, model.classes, names, request, info)
        elif given.name == model.manifest.input.name:
            if parameters:
                raise RequestError(f"parameters {', '.join(parameters)[:80]}: a raw tensor is answered as it is")
            rows = await _off_loop(given, tensors.read_tensor)
            if isinstance(rows, list):
                raise RequestError(f"input {given.name!r}: expected FP32, got BYTES; encoded files go to 'image'")
            info.image_count = len(rows) if rows.ndim else 0
            found = await model.infer(rows, deadline=info.deadline)
            outputs = output_tensors.rows_to_outputs(found, model.manifest, names)
        else:
            raise RequestError(
                f"input {given.name[:64]!r} of {given.datatype[:20]}: not an input of {model.name}; "
                f"{_known_inputs(model)}"
            )
        return outputs

    async def _to_outputs(
        self,
        answers: list[ImageAnswer],
        classes: list[str],
        names: list[str] | None,
        request: InferRequest,
        info: RequestInfo,
    ) -> list[InferOutput]:
        """Return the outputs for images; pixels of masks are many, and made in a thread."""
        if names is None or output_tensors.MASK_PIXELS not in names:
            return output_tensors.answers_to_outputs(answers, classes, names)
        most = int(self._config.limits.max_mask_mib * 2**20)
        if info.protocol != "grpc" and not is_binary(request, output_tensors.MASK_PIXELS):
            most //= _JSON_BYTES_A_PIXEL
        return await asyncio.to_thread(output_tensors.answers_to_outputs, answers, classes, names, max_mask_pixels=most)

    def _only_name(self) -> str:
        if self._config.arms.name:
            return self._config.arms.name
        names = self.store.names()
        if len(names) > 1:
            raise RequestError(f"several models are served; name one of {', '.join(names)}")
        return names[0] if names else ""


def _names(request: InferRequest) -> list[str] | None:
    """Return the outputs asked for, each once, however often it is named; None for all."""
    return list(dict.fromkeys(output.name for output in request.request_outputs or [])) or None


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


def _known_inputs(model: ServedModel) -> str:
    own = model.manifest.input
    return f"known: 'image' (BYTES [N] or UINT8 [H, W, 3]), {own.name!r} (FP32 {own.shape})"


async def _off_loop(given: Any, read: Any) -> Any:
    """Read a tensor; lists of many numbers in a thread, views on bytes at once."""
    if given._raw_data is None and isinstance(given.data, list):
        return await asyncio.to_thread(read, given)
    return read(given)
