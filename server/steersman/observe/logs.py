"""Steersman's own log lines: text in the manner of vLLM's, or JSON."""

import datetime
import json
import logging
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

_PLAIN = re.compile(r"[\w.:/+-]+", re.ASCII)
"""Values that need no quotes."""


class LogFormat(StrEnum):
    """Forms of a log line."""

    TEXT = "text"
    JSON = "json"


def configure(form: LogFormat = LogFormat.TEXT) -> None:
    """Send the log of the `steersman` packages to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else TextFormatter())
    logger = logging.getLogger("steersman")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """Fields that a line has beside its message: given to the logger as `extra={"fields": …}`."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


class TextFormatter(logging.Formatter):
    """A line of text; fields follow as `name=value`, with quotes where a value needs them."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(asctime)s [steersman] %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line without what was raised."""
        fields = (f" {name}={_quoted(value)}" for name, value in fields_of(record).items())
        return super().formatMessage(record) + "".join(fields)


class JsonFormatter(logging.Formatter):
    """One JSON object: `time` (UTC), `level`, `logger`, `message`, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; what was raised is in `exception`."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _quoted(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
