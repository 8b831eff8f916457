"""Server-sent events on their way out: the receipt goes into the last chunk, never a new one.

A chat or completion stream ends in `data: [DONE]`, so a chunk that may be the last one is held
back until the next shows whether it was. A Responses stream ends in an event that carries the
whole response.
"""

import json
from collections.abc import Callable
from typing import Any

from steersman_client import Receipt

_DATA = b"data: {"
_DONE = b"data: [DONE]"
_RESPONSE_FAILED = b"event: response.failed"
_RESPONSE_END = (
    b"event: response.completed",
    b"event: response.incomplete",
    _RESPONSE_FAILED,
)


class ReceiptStream:
    """Splits a byte stream into events and puts the receipt into the one that ends it.

    Args:
        receipt: Called once, when the stream is about to end.
        live: Adds the monitor's values to a chunk; returns whether there were any. None to leave
            the chunks as they are.
        news: Makes an event of our own that goes before the last one, from the time when the stream
            began, in seconds; None for none.
        ending: Makes the chunk that ends all choices, for a stream in which vLLM ends none; empty
            if that is an error. vLLM leaves out a choice that ended before its first token.

    """

    def __init__(
        self,
        receipt: Callable[[], Receipt],
        live: Callable[[dict[str, Any]], bool] | None = None,
        news: Callable[[int], bytes] | None = None,
        ending: Callable[[], bytes] = bytes,
    ) -> None:
        self._receipt = receipt
        self._ending = ending
        self._live = live
        self._news = news
        self._rest = b""
        self._held = b""
        self.created: int | None = None
        """When the stream began, in seconds, where a chunk of ours has said so; else vLLM's word
        stands."""
        self.over = False
        """True once the event that ends the stream has come: nothing may follow it."""
        self.events = 0
        """Events that have come, comments left out."""
        self.answered = False
        """Whether the stream ended in an answer, and not in an error event or a cut."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the stream; return those that may be sent now."""
        *events, self._rest = (self._rest + data).split(b"\n\n")
        return b"".join(self._pass(event) for event in events)

    def close(self) -> bytes:
        """Remaining bytes when the stream has ended without its closing event."""
        return self._held + self._rest

    def _pass(self, event: bytes) -> bytes:
        released, self._held = self._held, b""
        self.events += _DATA in event
        if self.created is not None and event.startswith(_DATA):
            event = _with_created(event, self.created)
        if event.startswith(_DONE):
            released = released or self._ending()
            self.over, self.answered = True, bool(released)
            last = _with_receipt(released, self._receipt, ()) + event + b"\n\n"
            return self._last_news(released) + last
        if event.startswith(_RESPONSE_END):
            self.over, self.answered = True, not event.startswith(_RESPONSE_FAILED)
            released += self._last_news(event)
            event = _with_receipt(event, self._receipt, ("response",))
        elif self._live is not None and _DATA in event:
            event = _with_live(event, self._live)
        if may_be_last(event):
            self._held = event + b"\n\n"
            return released
        return released + event + b"\n\n"

    def _last_news(self, last: bytes) -> bytes:
        """The events of our own that are due before the stream's last one."""
        if self._news is None or not last:
            return b""
        _, chunk = _parsed(last)
        return self._news(chunk.get("created", 0) if self.created is None else self.created)


def may_be_last(event: bytes) -> bool:
    """True if `[DONE]` could follow: a chunk that ends a choice, or the one with the usage."""
    return b'"finish_reason":"' in event or b'"choices":[]' in event


def _with_receipt(event: bytes, receipt: Callable[[], Receipt], path: tuple[str, ...]) -> bytes:
    """An event with `control` added to the object that `path` leads to in its data."""
    if not event:
        return event
    head, chunk = _parsed(event)
    _put_receipt(chunk, receipt(), path)
    tail = b"\n\n" if event.endswith(b"\n\n") else b""
    return _written(head, chunk) + tail


def _with_live(event: bytes, live: Callable[[dict[str, Any]], bool]) -> bytes:
    head, chunk = _parsed(event)
    return _written(head, chunk) if live(chunk) else event


def _with_created(event: bytes, created: int) -> bytes:
    head, chunk = _parsed(event)
    if "created" not in chunk:
        return event
    return _written(head, {**chunk, "created": created})


def _parsed(event: bytes) -> tuple[bytes, dict[str, Any]]:
    head, mark, data = event.partition(b"data: ")
    return head + mark, json.loads(data)


def _written(head: bytes, chunk: dict[str, Any]) -> bytes:
    text = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
    return head + text.encode("utf-8", "backslashreplace")  # lone surrogates, as JSON escapes them


def _put_receipt(body: dict[str, Any], receipt: Receipt, path: tuple[str, ...]) -> None:
    """Add a receipt to the `control` of a response object, in place."""
    for key in path:
        body = body[key]
    body.setdefault("control", {}).update(receipt.model_dump(mode="json", exclude_none=True))
