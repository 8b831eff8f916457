"""A made-up Steersman server that answers every chat request with the same chains."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.unit.replies import Reply, replying

MARKERS = {"start": [1], "end": [2], "start_text": "<think>", "end_text": "</think>"}
CAPABILITIES = {"model": {"names": ["tiny", "tiny:concise"]}, "thinking_tokens": MARKERS}
STEPS: list[dict[str, Any]] = [
    {"chain": 0, "step": 0, "accepted": True, "target": -6.0, "tokens": 30, "acceptance": 1.0},
    {"chain": 1, "step": 0, "accepted": False, "target": None, "tokens": 12, "acceptance": 0.0},
    {"chain": 0, "step": 1, "accepted": False, "target": -6.0, "tokens": 30, "acceptance": 0.5},
    {"chain": 1, "step": 1, "accepted": True, "target": -2.5, "tokens": 20, "acceptance": 0.5},
]
TEXTS = [
    r"<think>4+4, or \boxed{9}</think>So \boxed{8}.",
    "<think>hm",
    r"<think>4+4</think>It is \boxed{8}",
    r"<think>4+5</think>$\boxed{9}$",
]
SEARCH = {
    "method": "align",
    "launched": 7,
    "finished": 6,
    "cancelled": 1,
    "decided_by": "majority",
    "steps": 4,
    "acceptance": 0.5,
    "acceptance_by_chain": [0.5, 0.5],
    "target_start": -7.25,
    "target_end": -4.25,
    "target_chosen": -2.5,
    "effective_samples": 3.6,
    "reused_tokens": 48,
    "resampled_tokens": 1017,
    "chain": [{**step, "text": text} for step, text in zip(STEPS, TEXTS, strict=True)],
}
RECEIPT = {
    "applied": {"max_tokens": 99, "search": SEARCH},
    "compute": {"sampled_tokens": 1234, "returned_tokens": 30, "wall_ms": 2500.0},
}


def chunk(
    content: str = "", reason: str | None = None, control: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A chunk of a chat stream."""
    delta = {"content": content} if content else {}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        **({} if control is None else {"control": control}),
    }


def chunks() -> list[dict[str, Any]]:
    """The whole stream: steps, the answer, the receipt in its last chunk."""
    return [
        chunk(control={"steps": STEPS[:1]}),
        chunk(control={"steps": STEPS[1:]}),
        chunk(r"It is \boxed{8}"),
        chunk("\n", "stop", RECEIPT),
    ]


class MadeUpServer:
    """Keeps what it is asked, and answers as it is told.

    Attributes:
        url: Its address.
        bodies: Bodies of the chat requests.
        keys: The `Authorization` of each request.
        capabilities: Status and body of `/v1/control/capabilities`.
        refusal: Status and body of an error in place of the stream.
        stream: Chunks of the stream.
        missing: Bytes of the stream that never come.

    """

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.capabilities: tuple[int, Any] = (200, CAPABILITIES)
        self.refusal: tuple[int, Any] | None = None
        self.stream = chunks()
        self.missing = 0

    def answer(self, path: str, headers: Mapping[str, str], payload: bytes) -> Reply:
        """The reply to a request."""
        self.keys.append(headers["authorization"])
        if path == "/v1/control/capabilities":
            status, body = self.capabilities
        else:
            assert path == "/v1/chat/completions"
            self.bodies.append(json.loads(payload))
            if self.refusal is None:
                events = [*map(json.dumps, self.stream), "[DONE]"]
                content = "".join(f"data: {event}\n\n" for event in events)
                return Reply(200, content.encode(), "text/event-stream", self.missing)
            status, body = self.refusal
        return Reply(status, json.dumps(body).encode(), missing=self.missing)


@contextmanager
def serving() -> Iterator[MadeUpServer]:
    """The server on a free port of this machine."""
    made_up = MadeUpServer()
    with replying(made_up.answer) as made_up.url:
        yield made_up
