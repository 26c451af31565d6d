"""The REST application: KServe's routes of v1 and v2, ours beside them, and the gate before all of them."""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from visionyard.config.serving_config import ServingConfig
from visionyard.errors import VisionyardError
from visionyard.serving.asgi import App, Receive, Scope, Send
from visionyard.serving.gate import Gate
from visionyard.serving.kserve_sdk import (
    DataPlane,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ModelRepositoryExtension,
    ServerNotReady,
    UnsupportedProtocol,
    register_v1_endpoints,
    register_v2_endpoints,
)
from visionyard.serving.openapi import RESPONSES, describe
from visionyard.serving.requests import current_request
from visionyard.serving.routes import Routes
from visionyard.serving.statuses import RefusedError, refuse

_HANDLED = (
    VisionyardError,
    RefusedError,
    HTTPException,
    RequestValidationError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotReady,
    UnsupportedProtocol,
    NotImplementedError,
    Exception,
)
_HTTP_WORDS = {404: "no such route", 405: "this route takes other methods"}
# KServe's route for which `binary_tensors` stands in.
_REPLACED = frozenset({"/v2/models/{model_name}/infer"})


def make_app(
    config: ServingConfig, routes: Routes, data_plane: DataPlane, extension: ModelRepositoryExtension
) -> FastAPI:
    """Return the application without its gate.

    Args:
        config: Docs and the path prefix.
        routes: Ours.
        data_plane: Behind KServe's routes.
        extension: Loads and unloads models.
    """
    has_docs = config.server.docs
    app = _App(
        routes,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if has_docs else None,
        root_path=config.server.root_path,
        responses=RESPONSES,
    )
    for kind in _HANDLED:
        app.add_exception_handler(kind, _answer_error)
    app.include_router(routes.router())
    register_v1_endpoints(_Without(app, _REPLACED), data_plane, extension)
    register_v2_endpoints(_Without(app, _REPLACED), data_plane, extension)
    describe(app, config.limits)
    return app


def with_cors(gate: Gate, config: ServingConfig) -> App:
    """Return the gate, behind the answers to pages of other origins where the config names some."""
    if not config.cors.origins:
        return gate
    return CORSMiddleware(
        gate,
        allow_origins=config.cors.origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-Id", "Inference-Header-Content-Length"],
        expose_headers=["X-Request-Id", "Retry-After", "Inference-Header-Content-Length"],
    )


class _App(FastAPI):
    """FastAPI, but for the route that is asked most.

    FastAPI and Starlette lead a request through a dozen layers, which take 65 of the 175 microseconds that the event
    loop spends on one, and hold Python's lock meanwhile: with 16 clients of a small classifier on two cores 225 images
    a second went through them, and 246 past them. `/predict` reads the request itself, and its errors are answered here
    as there.
    """

    def __init__(self, routes: Routes, **settings: Any) -> None:
        super().__init__(**settings)
        self._predict = routes.predict

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or self._path(scope) != "/predict":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await self._predict(request)
        except Exception as error:
            response = await _answer_error(request, error)
        await response(scope, receive, send)

    def _path(self, scope: Scope) -> str:
        path: str = scope["path"]
        return path.removeprefix(self.root_path)


class _Without:
    """Takes a router for an application, less some of its paths."""

    def __init__(self, app: FastAPI, paths: Iterable[str]) -> None:
        self._app = app
        self._paths = paths

    def include_router(self, router: APIRouter) -> None:
        router.routes[:] = [route for route in router.routes if getattr(route, "path", "") not in self._paths]
        self._app.include_router(router)


async def _answer_error(request: Request, error: Exception) -> Response:
    info = current_request()
    info.error = error
    if isinstance(error, HTTPException) and error.status_code in _HTTP_WORDS:
        error.detail = f"{request.method} {request.url.path[:100]}: {_HTTP_WORDS[error.status_code]}"
    refusal = refuse(error)
    headers = {name.decode(): value.decode() for name, value in refusal.headers()}
    if isinstance(error, HTTPException):
        headers |= dict(error.headers or {})
    return Response(refusal.body(info.request_id), refusal.http_status, headers, media_type="application/json")
