"""The routes beside the protocols: predictions from plain images, what is served, health, metrics, drift, pages."""

import asyncio
import io
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from PIL import Image
from starlette.formparsers import MultiPartException, MultiPartParser

from visionyard.errors import NotFoundError, RequestError
from visionyard.inference.drawing import draw_prediction
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.serving.answering import Answering
from visionyard.serving.answers import Answered, ImageAnswer
from visionyard.serving.binary_tensors import HEADER, encode_response, parse_request
from visionyard.serving.docs_page import DOCS_PAGE
from visionyard.serving.engine import ServedModel
from visionyard.serving.kserve_sdk import DataPlane, ModelRepositoryExtension
from visionyard.serving.openapi import INFER_ANSWER, INFER_BODY, JPEG, PREDICT_BODY, PREDICT_PARAMETERS, PREDICTIONS
from visionyard.serving.payloads import THREAD_BYTES, Payload, PayloadReader, load_json
from visionyard.serving.requests import InFlight, current_request
from visionyard.serving.rows import ARROW, RowAnswer, RowPayload, arrow_answer, read_arrow, read_json_rows

_JPEG_QUALITY = 90
# Answers to be written by the event loop itself, which takes some 20 microseconds each; no request of images has more.
_LISTED_AT_ONCE = 100
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# The pages bring everything along: nothing is loaded from elsewhere, and nothing they show can run.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# The whole line of the page that leads to /docs.
_DOCS_LINK = re.compile(r"^.*<a id=\"docs\".*$\n", re.MULTILINE)


class Routes:
    """Handlers of the routes beside the protocols."""

    def __init__(
        self,
        *,
        answering: Answering,
        reader: PayloadReader,
        metrics: ServingMetrics,
        data_plane: DataPlane,
        extension: ModelRepositoryExtension,
        in_flight: InFlight,
        has_docs: bool,
    ) -> None:
        """Put the parts together."""
        self._has_docs = has_docs
        self._answering = answering
        self._reader = reader
        self._metrics = metrics
        self._data_plane = data_plane
        self._extension = extension
        self._in_flight = in_flight

    def router(self) -> APIRouter:
        """Return the routes; those of the pages are not part of the OpenAPI document."""
        router = APIRouter()
        parameters = {"parameters": PREDICT_PARAMETERS}
        add = router.add_api_route
        add("/predict", self.predict, methods=["POST"], responses={200: PREDICTIONS}, response_class=Response,
            openapi_extra={**parameters, **PREDICT_BODY}, tags=["Images"])  # fmt: skip
        add("/predict/image", self.predict_image, methods=["POST"], responses={200: JPEG}, response_class=Response,
            openapi_extra={**parameters, **PREDICT_BODY}, tags=["Images"])  # fmt: skip
        add("/v2/models/{model_name}/infer", self.infer, methods=["POST"], responses={200: INFER_ANSWER},
            response_class=Response, openapi_extra=INFER_BODY, tags=["V2"])  # fmt: skip
        add("/v2/repository/index", self.repository_index, methods=["POST"], tags=["V2"])
        add("/model/info", self.model_info, methods=["GET"], tags=["Server"])
        add("/models", self.models, methods=["GET"], tags=["Server"])
        add("/health", self.health, methods=["GET"], tags=["Server"])
        add("/drift", self.drift, methods=["GET"], tags=["Server"])
        add("/metrics", self.metrics, methods=["GET"], response_class=Response, include_in_schema=False)
        add("/", self.page, methods=["GET"], response_class=HTMLResponse, include_in_schema=False)
        add("/rows", self.rows_page, methods=["GET"], response_class=HTMLResponse, include_in_schema=False)
        if self._has_docs:
            add("/docs", self.docs, methods=["GET"], response_class=HTMLResponse, include_in_schema=False)
        return router

    async def predict(self, request: Request) -> Response:
        """Look at images (raw bytes, a form of files, JSON with base64 or addresses) or at rows (JSON, Arrow)."""
        model, answers = await self._predict(request, keep_images=False)
        if ARROW in request.headers.get("accept", "") and model.takes_rows:
            rows = [answer for answer in answers if isinstance(answer, RowAnswer)]
            return Response(await arrow_answer(rows, model.classes), media_type=ARROW)
        body = {
            "model": model.name,
            "model_digest": model.digest,
            "request_id": current_request().request_id,
            "predictions": await _listed(answers, model.classes),
        }
        return Response(orjson.dumps(body), media_type="application/json")

    async def predict_image(self, request: Request) -> Response:
        """Look at one image; the answer is that image with the prediction drawn on it, as JPEG."""
        model, answers = await self._predict(request, keep_images=True)
        if not isinstance(answers[0], ImageAnswer):
            raise RequestError(
                f"model {model.name} looks at rows of a table, on which nothing can be drawn; ask /predict"
            )
        data = await asyncio.to_thread(_draw, answers[0], model.classes)
        return Response(data, media_type="image/jpeg")

    async def infer(self, request: Request, model_name: str) -> Response:
        """Infer by tensors: JSON, or the binary tensor extension."""
        info = current_request()
        body = await request.body()
        head_length = info.headers.get(HEADER, "")
        if len(body) > THREAD_BYTES and not head_length:
            read = await asyncio.to_thread(parse_request, body, head_length, model_name)
        else:
            read = parse_request(body, head_length, model_name)
        response, _ = await self._data_plane.infer(model_name=model_name, request=read, headers=None)
        size = sum(output.data.nbytes for output in response.outputs)
        if size > THREAD_BYTES:
            answer, head_bytes = await asyncio.to_thread(encode_response, response, read)
        else:
            answer, head_bytes = encode_response(response, read)
        if head_bytes is None:
            return Response(answer, media_type="application/json")
        return Response(answer, media_type="application/octet-stream", headers={HEADER: str(head_bytes)})

    async def repository_index(self) -> list[dict[str, str]]:
        """List the models and whether each is ready, as Triton's clients ask for it."""
        index: list[dict[str, str]] = await self._extension.index()
        return index

    async def model_info(self, model: str = "") -> dict[str, Any]:
        """Return what a model's bundle says of itself, and how it runs here."""
        served = self._answering.find(model, current_request())
        limits = self._answering.limits.model_dump(
            include={"min_confidence", "max_top_k", "max_detections", "max_images"}
        )
        manifest = served.manifest.model_dump(mode="json")
        return {**_summary(served), "reason": served.reason, "limits": limits, "manifest": manifest}

    async def models(self) -> dict[str, Any]:
        """List the models that are served."""
        store = self._answering.store
        return {"models": [_summary(store.get(name)) for name in store.names()]}

    async def health(self) -> dict[str, Any]:
        """Say whether the server is ready, loading or stopping, and which models are."""
        store = self._answering.store
        status = "stopping" if self._in_flight.is_draining else "ready" if store.is_ready else "loading"
        return {"status": status, "models": {name: store.get(name).is_ready for name in store.names()}}

    async def drift(self, model: str = "") -> dict[str, Any]:
        """Compare a model's latest pictures with those it was trained on."""
        served = self._answering.find(model, current_request())
        report = await asyncio.to_thread(served.drift_report)
        if report is None:
            raise NotFoundError(
                f"model {served.name}: drift is not watched: drift.enabled is off, or its bundle has no statistics"
            )
        return {"model": served.name, "model_digest": served.digest, **report.to_json()}

    async def metrics(self) -> Response:
        """Return the series as Prometheus reads them."""
        return Response(await asyncio.to_thread(self._metrics.exposition), media_type=_METRICS_TYPE)

    async def page(self) -> HTMLResponse:
        """Return the page where a person drops an image; where only tables are served, the one that takes rows."""
        return self._page("rows_page.html" if self._answering.has_only_tables else "page.html")

    async def rows_page(self) -> HTMLResponse:
        """Return the page where a person fills in a row."""
        return self._page("rows_page.html")

    def _page(self, name: str) -> HTMLResponse:
        place = resources.files("visionyard.serving") / name
        if not place.is_file():
            raise NotFoundError("this installation has no page; use /predict")
        text = place.read_text(encoding="utf-8")
        return HTMLResponse(text if self._has_docs else _DOCS_LINK.sub("", text), headers=_PAGE_HEADERS)

    async def docs(self) -> HTMLResponse:
        """Return the page that shows /openapi.json."""
        return HTMLResponse(DOCS_PAGE, headers=_PAGE_HEADERS)

    async def _predict(self, request: Request, *, keep_images: bool) -> tuple[ServedModel, Sequence[Answered]]:
        info = current_request()
        payload = await self._read(request)
        parameters = {**request.query_params, **payload.parameters}
        name = parameters.pop("model", "")
        if not isinstance(name, str):
            raise RequestError("parameter model: expected a text")
        model = self._answering.find(name, info)
        if isinstance(payload, RowPayload):
            return model, await self._answering.predict_rows(model, payload, parameters, info)
        if keep_images and len(payload.images) != 1:
            raise RequestError(f"the request holds {len(payload.images)} images; one can be drawn at a time")
        answers = await self._answering.predict(model, payload.images, parameters, info, keep_images=keep_images)
        return model, answers

    async def _read(self, request: Request) -> Payload | RowPayload:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == ARROW:
            return await read_arrow(await request.body(), self._answering.limits.max_rows)
        if kind == "application/json" and self._answering.has_tables:
            values = await load_json(await request.body())
            is_rows = isinstance(values, list) or (isinstance(values, dict) and "rows" in values)
            if is_rows or self._answering.has_only_tables:
                return read_json_rows(values, "rows", self._answering.limits.max_rows)
            return await self._reader.read(values, "images")
        if kind == "application/json":
            return await self._reader.read(await load_json(await request.body()), "images")
        if kind == "multipart/form-data":
            return await self._read_form(request)
        if kind in {"", "application/octet-stream", "application/x-www-form-urlencoded"} or kind.startswith("image/"):
            # curl --data-binary says x-www-form-urlencoded unless told otherwise; the bytes show what they are.
            body = await request.body()
            if not body:
                raise RequestError("the body is empty; send an image, a form of files, or JSON")
            return Payload([body], {})
        raise RequestError(
            f"Content-Type {kind[:60]!r}: expected image/*, application/octet-stream, multipart/form-data, "
            f"application/json, or {ARROW} of rows"
        )

    async def _read_form(self, request: Request) -> Payload:
        parser = _FormParser(request.headers, request.stream(), max_files=1000, max_fields=20)
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError) as error:
            raise RequestError(f"the form cannot be read: {str(error)[:80] or type(error).__name__}") from None
        images: list[Any] = []
        fields: dict[str, object] = {}
        for name, value in form.multi_items():
            if isinstance(value, str):
                fields[name] = value
            else:
                self._reader.check_count(len(images) + 1)
                images.append(value.file.read())
        await form.close()
        if not images:
            raise RequestError("the form holds no file; add at least one image")
        return Payload(images, fields)


class _FormParser(MultiPartParser):
    # The body is in memory already and bounded; starlette would write files above 1 MiB to a folder that a read-only
    # container may not have.
    spool_max_size = 2**40


def _summary(model: ServedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "digest": model.digest,
        "task": model.manifest.task,
        "takes": f"{model.manifest.preprocessing.item}s",
        "classes": model.classes,
        "format": model.format,
        "device": model.device,
        "is_ready": model.is_ready,
    }


async def _listed(answers: Sequence[Answered], classes: list[str]) -> list[dict[str, Any]]:
    """Return answers as plain values; those of many rows in a thread."""
    if len(answers) <= _LISTED_AT_ONCE:
        return [answer.to_json(classes) for answer in answers]
    return await asyncio.to_thread(lambda: [answer.to_json(classes) for answer in answers])


def _draw(answer: ImageAnswer, classes: list[str]) -> bytes:
    if answer.image is None:
        raise RequestError("the image was not kept")
    buffer = io.BytesIO()
    picture = draw_prediction(answer.image, answer.prediction, classes)
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
