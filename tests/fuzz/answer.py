"""Response to one request, read as strictly as the strictest client would."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

DONE = "[DONE]"


class NotJsonError(Exception):
    """Bytes that a strict JSON parser refuses; the message says why."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: HTTP status; 0 if none came.
        content_type: Media type of the content, without parameters.
        content: All that came.
        broken: Why the connection ended before the answer did; None if it did not.
        cut: Whether the client hung up on purpose.

    """

    status: int = 0
    content_type: str = ""
    content: bytes = b""
    broken: str | None = None
    cut: bool = False

    @property
    def is_stream(self) -> bool:
        return self.content_type == "text/event-stream"

    @property
    def events(self) -> list[str]:
        """The data of each event of a stream, comments left out.

        Raises:
            NotJsonError: It is no text.

        """
        lines = _text(self.content).split("\n")
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def strict(content: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        NotJsonError: No JSON, a literal that JSON has not, or a key that comes twice.

    """
    try:
        return json.loads(_text(content), parse_constant=_refuse, object_pairs_hook=_unique)
    except ValueError as error:
        raise NotJsonError(str(error)) from None


def _text(content: bytes | str) -> str:
    try:
        return content.decode() if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise NotJsonError(str(error)) from None


def _refuse(literal: str) -> NoReturn:
    raise NotJsonError(f"JSON has no {literal}")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise NotJsonError(f"the key {key!r} comes twice")
        made[key] = value
    return made
