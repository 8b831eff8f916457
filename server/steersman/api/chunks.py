"""Chunks of our own in a stream of chat completions or completions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steersman.request import Endpoint


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """The fields that all chunks of a stream have in common.

    Attributes:
        endpoint: Where the request came in.
        request_id: The request's id: vLLM puts a word before it.
        model: The model's name in responses.

    """

    endpoint: Endpoint
    request_id: str
    model: str

    def chunk(self, created: int, events: Mapping[str, Any]) -> dict[str, Any]:
        """A chunk that adds nothing to the answer and has events in its `control`."""
        return {**self._chunk(created, [self._nothing(0, None)]), "control": events}

    def ending(self, created: int, choices: int) -> bytes:
        """The chunk that ends so many choices at a limit, as an event of the stream."""
        ended = [self._nothing(index, "length") for index in range(choices)]
        return f"data: {json.dumps(self._chunk(created, ended))}\n\n".encode()

    def _chunk(self, created: int, choices: list[dict[str, Any]]) -> dict[str, Any]:
        chat = self.endpoint is Endpoint.CHAT
        return {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.request_id}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": created,
            "model": self.model,
            "choices": choices,
        }

    def _nothing(self, index: int, finish_reason: str | None) -> dict[str, Any]:
        """A choice to which nothing is added."""
        addition: dict[str, Any] = {"delta": {}} if self.endpoint is Endpoint.CHAT else {"text": ""}
        return {"index": index, **addition, "logprobs": None, "finish_reason": finish_reason}
