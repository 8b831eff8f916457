"""What a streaming client sees while a search runs and no token of the answer is known yet."""

import asyncio
import json
import time
from typing import Any

from steersman.api.answer import Answer
from steersman.request import Endpoint
from steersman.scope import ControlScope
from steersman_client import FirstFinish, Leader

COMMENT_SECONDS = 1.0
"""An idle stream gets a comment this often, so that no proxy takes it for dead."""
LEADER_SECONDS = 0.2
"""How often new text of the leading sibling is shown."""


async def report(
    scope: ControlScope,
    answer: Answer,
    search: FirstFinish,
    *,
    endpoint: Endpoint,
    request_id: str,
    model: str,
) -> None:
    """Report until cancelled: comments on an idle stream, or the leader if the search shows it."""
    while True:
        sent = answer.sent
        await asyncio.sleep(LEADER_SECONDS if search.stream_leader else COMMENT_SECONDS)
        if answer.sent != sent or not scope.ledger.running:
            continue
        if not search.stream_leader:
            await answer.interject(f": steersman {json.dumps(scope.progress())}\n\n".encode())
        elif (leader := scope.leader()) and leader.text:
            chunk = leader_chunk(leader, endpoint, request_id, model)
            await answer.interject(f"data: {json.dumps(chunk)}\n\n".encode())


def leader_chunk(leader: Leader, endpoint: Endpoint, request_id: str, model: str) -> dict[str, Any]:
    """A chunk that adds nothing to the answer and shows the leader in its `control`."""
    chat = endpoint is Endpoint.CHAT
    nothing: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{request_id}",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, **nothing, "logprobs": None, "finish_reason": None}],
        "control": {"leader": leader.model_dump(mode="json")},
    }
