"""Progress events of a stream while a search runs and no token of the answer is known yet."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from steersman.api.answer import Answer
from steersman.request import Endpoint
from steersman.scope import ControlScope
from steersman_client import Leader

COMMENT_SECONDS = 1.0
"""An idle stream gets a comment this often, so that no proxy takes it for dead."""
LEADER_SECONDS = 0.2
"""How often new text of the leading sibling is shown."""


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

    def chunk(self, created: int, leader: Leader) -> dict[str, Any]:
        """A chunk that adds nothing to the answer and shows the leader in its `control`."""
        chat = self.endpoint is Endpoint.CHAT
        nothing: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        return {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.request_id}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": created,
            "model": self.model,
            "choices": [{"index": 0, **nothing, "logprobs": None, "finish_reason": None}],
            "control": {"leader": leader.model_dump(mode="json")},
        }


async def report(scope: ControlScope, answer: Answer, head: ChunkHead | None) -> None:
    """Report until cancelled: comments on an idle stream, or its leading sibling.

    Args:
        scope: The request.
        answer: Its stream.
        head: What the chunks of a stream that shows its leader begin with; None for comments.

    """
    created = int(time.time())
    while True:
        sent = answer.sent
        await asyncio.sleep(COMMENT_SECONDS if head is None else LEADER_SECONDS)
        if answer.sent != sent or not scope.ledger.running:
            continue
        if head is None:
            await answer.interject(f": steersman {json.dumps(scope.progress())}\n\n".encode())
        elif (leader := scope.leader()) and leader.text:
            chunk = head.chunk(created, leader)
            await answer.interject(f"data: {json.dumps(chunk)}\n\n".encode(), created)
