"""A made-up Steersman server, whose answers depend on the request alone."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.unit import replies

MODEL = "tiny"
Reply = tuple[int, dict[str, Any]]
Script = Callable[[dict[str, Any], int], Reply | None]
"""From the request and the number of those before it: what to answer instead."""


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """Right for an even seed; with a control, costs four times as many tokens."""
    number = body["messages"][0]["content"].removeprefix("What is ").partition("?")[0]
    tokens = 10 + body["seed"] % 50
    controlled = "control" in body
    control = {
        "compute": {"sampled_tokens": 4 * tokens},
        "entropy": {"pear": 0.0, "tokens": [[7, -0.1, 0.5], [8, -0.2, 0.25]]},
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": number if body["seed"] % 2 == 0 else "",
                    "reasoning": "hm",
                },
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": tokens,
            "total_tokens": 5 + tokens,
            "completion_tokens_details": {"reasoning_tokens": tokens - 2},
        },
        **({"control": control} if controlled else {}),
    }


def refusal(param: str, message: str) -> Reply:
    """A 400 as the real server words it."""
    return 400, {"error": {"message": message, "type": "x", "param": param, "code": 400}}


class MadeUpServer:
    """Keeps the bodies of all chat requests; `script` may answer in its place."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.script: Script = lambda body, before: None
        self.url = ""
        self._lock = threading.Lock()

    def answer(self, path: str, payload: bytes) -> Reply:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        body = json.loads(payload)
        with self._lock:
            before = len(self.bodies)
            self.bodies.append(body)
        return self.script(body, before) or (200, completion(body))


@contextmanager
def serving() -> Iterator[MadeUpServer]:
    """The server on a free port of this machine."""
    made_up = MadeUpServer()

    def reply(path: str, _: Mapping[str, str], payload: bytes) -> replies.Reply:
        status, body = made_up.answer(path, payload)
        headers = {"x-should-retry": "false"}
        return replies.Reply(status, json.dumps(body).encode(), headers=headers)

    with replies.replying(reply) as made_up.url:
        yield made_up
