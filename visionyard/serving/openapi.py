"""What the OpenAPI document says beyond what FastAPI reads from the handlers: bodies, parameters, refusals."""

from typing import Any, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from visionyard import __version__
from visionyard.config.serving_config import LimitsConfig
from visionyard.inference.paths import MaskForm
from visionyard.serving.rows import ARROW

_BYTES = {"type": "string", "format": "binary"}
_REFUSAL = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "request_id": {"type": "string"}},
    "required": ["error", "request_id"],
}
_IMAGE = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"b64": {"type": "string"}},
            "required": ["b64"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"url": {"type": "string"}},
            "required": ["url"],
            "additionalProperties": False,
        },
    ]
}
_ROW = {"type": "object", "additionalProperties": {"type": ["number", "string", "boolean", "null"]}}
_REFUSALS = {
    400: "The request is wrong; `error` says what is.",
    401: "A key is asked for.",
    403: "What was asked for is switched off.",
    404: "No such route or model.",
    405: "The route does not take this method.",
    408: "The body came too slowly.",
    413: "The body, an image or the number of images or rows is over the limit.",
    415: "The body has a content encoding, or is Arrow, which this server is installed without.",
    429: "Too many requests of this caller; Retry-After says when to come back.",
    500: "A mistake of the server; the log has its trace under `request_id`.",
    501: "Not implemented.",
    503: "Too much to do, loading or stopping; Retry-After says when to come back.",
    504: "The answer was not ready in time.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": {"application/json": {"schema": _REFUSAL}}}
    for status, words in _REFUSALS.items()
}
PREDICTIONS: dict[str, Any] = {
    "description": "One prediction an image, or row, in order; of rows as Arrow too, where Accept asks for it.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "model": {"type": "string"},
                    "model_digest": {"type": "string"},
                    "request_id": {"type": "string"},
                    "predictions": {"type": "array", "items": {"type": "object"}},
                },
                "required": ["model", "model_digest", "request_id", "predictions"],
            }
        }
    },
}
JPEG: dict[str, Any] = {
    "description": "The image with its prediction drawn.",
    "content": {"image/jpeg": {"schema": _BYTES}},
}
PREDICT_PARAMETERS: list[dict[str, Any]] = [
    *(
        {"name": name, "in": "query", "required": False, "schema": {"type": kind}, "description": words}
        for name, kind, words in (
            ("model", "string", "Name of the model; not needed where one is served."),
            ("confidence", "number", "Lowest confidence of a detection, 0 to 1."),
            ("iou", "number", "Overlap above which the less confident of two boxes is dropped, 0 to 1."),
            ("max_detections", "integer", "Most boxes of an image."),
            ("top_k", "integer", "Classes listed of a classification."),
        )
    ),
    {
        "name": "masks",
        "in": "query",
        "required": False,
        "schema": {"type": "string", "enum": list(get_args(MaskForm))},
        "description": "How masks are written, where the model gives some: COCO's run lengths if not given.",
    },
]
PREDICT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/jpeg": {"schema": _BYTES},
            "image/png": {"schema": _BYTES},
            "application/octet-stream": {"schema": _BYTES},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": {"type": "array", "items": _BYTES}}}
            },
            "application/json": {
                "schema": {
                    "oneOf": [
                        {
                            "type": "object",
                            "properties": {
                                name: {"type": "array", "minItems": 1, "items": item},
                                "parameters": {"type": "object"},
                            },
                            "required": [name],
                            "additionalProperties": False,
                        }
                        for name, item in (("images", _IMAGE), ("rows", _ROW))
                    ]
                }
            },
            ARROW: {"schema": _BYTES},
        },
    }
}
_TENSOR = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}},
    },
    "required": ["name", "shape", "datatype"],
}
INFER_ANSWER: dict[str, Any] = {
    "description": "The outputs asked for, or all but `mask_pixels`. Of detections `image_index`, `xyxy`, `confidence` "
    "and `class_id`, a row an object, and `image_hw`; of models with masks `masks`, COCO's run lengths, and "
    "`mask_pixels` BOOL [N, H, W]; of models with keypoints `keypoints` FP32 [N, K, 3]. The "
    "model's metadata list what it gives.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "model_name": {"type": "string"},
                    "id": {"type": "string"},
                    "outputs": {"type": "array", "items": _TENSOR},
                },
                "required": ["model_name", "outputs"],
            }
        },
        "application/octet-stream": {"schema": _BYTES},
    },
}
INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": {"type": "object"},
                        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
                        "outputs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
                                "required": ["name"],
                            },
                        },
                    },
                    "required": ["inputs"],
                }
            },
            "application/octet-stream": {"schema": _BYTES},
        },
    }
}


def describe(app: FastAPI, limits: LimitsConfig) -> None:
    """Let an application describe itself: FastAPI's document without its own 422, with our refusals in their place."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title="Visionyard",
                version=__version__,
                summary="Images or rows of tables in, boxes or classes out.",
                description=f"Bodies of at most {limits.max_body_mib:g} MiB with at most {limits.max_images} images "
                f"or {limits.max_rows} rows.",
                routes=app.routes,
                servers=[{"url": app.root_path}] if app.root_path else None,
            )
            for operations in found["paths"].values():
                for operation in operations.values():
                    operation.get("responses", {}).pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                found.get("components", {}).get("schemas", {}).pop(name, None)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
