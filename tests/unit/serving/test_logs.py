import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from visionyard.serving.logs import _FOREIGN, make_logger, take_over_loggers


@pytest.fixture
def foreign_loggers() -> Iterator[None]:
    """Put the loggers of other libraries back as they were."""
    loggers = [logging.getLogger(name) for name in _FOREIGN]
    before = [(each.handlers, each.level, each.propagate) for each in loggers]
    yield
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers, each.level, each.propagate = handlers, level, propagate


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_begins_with_time_level_and_event() -> None:
    stream = io.BytesIO()

    make_logger("info", stream).info("request", status=200, note="über\n")

    (line,) = lines(stream)
    assert list(line)[:3] == ["time", "level", "event"]
    assert (line["level"], line["event"], line["status"], line["note"]) == ("info", "request", 200, "über\n")
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_urgent_lines_are_not_written(level: Any, written: list[str]) -> None:
    stream = io.BytesIO()
    logger = make_logger(level, stream)

    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("x")

    assert [line["level"] for line in lines(stream)] == written


def test_a_trace_goes_into_the_line() -> None:
    stream = io.BytesIO()
    try:
        raise KeyError("gone")
    except KeyError as error:
        make_logger("info", stream).error("request", exc_info=error)

    assert "KeyError: 'gone'" in lines(stream)[0]["exception"]


@pytest.mark.usefixtures("foreign_loggers")
def test_other_libraries_write_the_same_lines() -> None:
    stream = io.BytesIO()
    take_over_loggers(make_logger("info", stream))

    logging.getLogger("uvicorn.error").error("odd %s", "thing")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("kserve").error("bad")

    assert [(line["event"], line["logger"], line["level"]) for line in lines(stream)] == [
        ("odd thing", "uvicorn.error", "error"),
        ("bad", "kserve", "error"),
    ]
