"""Log lines in both forms."""

import datetime
import json
import logging
import sys
from typing import Any

from steersman.observe.logs import JsonFormatter, TextFormatter


def record(message: str, fields: dict[str, Any] | None = None, exc_info: Any = None) -> Any:
    made = logging.LogRecord(
        "steersman.observe.requests", logging.INFO, "", 0, message, (), exc_info
    )
    made.created = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC).timestamp()
    if fields is not None:
        made.fields = fields
    return made


def raised() -> Any:
    try:
        raise ValueError("no\nnumber")
    except ValueError:
        return sys.exc_info()


def test_a_json_line_is_one_object() -> None:
    fields = {"request_id": "a", "seconds": 1.5, "stream": False, "param": 'x"\n'}
    line = JsonFormatter().format(record("request ended", fields))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-01-02T03:04:05.678+00:00",
        "level": "INFO",
        "logger": "steersman.observe.requests",
        "message": "request ended",
        **fields,
    }


def test_a_json_line_has_what_was_raised() -> None:
    line = JsonFormatter().format(record("reward 'x' failed", exc_info=raised()))
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: no\nnumber")


def test_a_text_line_has_its_fields_behind_the_message() -> None:
    fields = {"request_id": "a-1", "seconds": 1.5, "param": 'control.x y"\n', "endpoint": "/v1"}
    line = TextFormatter().format(record("request ended", fields))
    assert line.startswith("INFO ")
    _, _, told = line.partition("[steersman] request ended ")
    assert told == 'request_id=a-1 seconds=1.5 param="control.x y\\"\\n" endpoint=/v1'
    assert "\n" not in line


def test_a_text_line_without_fields_is_its_message() -> None:
    assert TextFormatter().format(record("ready")).endswith("[steersman] ready")
    assert TextFormatter().format(record("no", exc_info=raised())).endswith("number")
