"""Logs as JSON lines on standard error: time, level, event and what belongs to it; never a payload, never a key.

The loggers of uvicorn, KServe and gRPC write through the same lines. A line for each request would be written twice if
uvicorn's access log were left on, so it is off.
"""

import logging
import sys
from typing import Any, BinaryIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from visionyard.config.serving_config import LogLevel

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Each with the least level that is told: what these say below it repeats our own lines or is of no use to an operator.
_FOREIGN = {
    "uvicorn": logging.ERROR,
    "uvicorn.error": logging.ERROR,
    "uvicorn.access": logging.CRITICAL,
    "kserve": logging.WARNING,
    "kserve.trace": logging.CRITICAL,
    "asyncio": logging.ERROR,
    "grpc": logging.WARNING,
    "watchfiles": logging.WARNING,
    # One line for each malformed form that somebody sends; the refusal has its own line.
    "python_multipart": logging.ERROR,
}


def make_logger(level: LogLevel, stream: BinaryIO | None = None) -> FilteringBoundLogger:
    """Return a logger of JSON lines; nothing global is configured.

    Args:
        level: Less urgent lines are not written.
        stream: Where to; None: standard error.
    """
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.BytesLogger(sys.stderr.buffer if stream is None else stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _in_order,
            structlog.processors.JSONRenderer(serializer=_to_line),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    )
    return logger


def take_over_loggers(logger: FilteringBoundLogger) -> None:
    """Let the loggers of uvicorn, KServe and gRPC write through ours, and keep KServe from setting up its own."""
    for name, least in _FOREIGN.items():
        foreign = logging.getLogger(name)
        foreign.handlers = [_Forward(logger)]
        foreign.setLevel(least)
        foreign.propagate = False


class _Forward(logging.Handler):
    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one of our lines."""
        values: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            values["exc_info"] = record.exc_info
        self._logger.log(record.levelno, record.getMessage(), **values)


def _in_order(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    first = {key: event.pop(key) for key in ("time", "level", "event")}
    return {**first, **event}


def _to_line(event: EventDict, **_: object) -> bytes:
    return orjson.dumps(event, default=str)
