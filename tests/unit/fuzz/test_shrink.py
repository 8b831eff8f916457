"""A failing request loses what it does not need."""

import json

import anyio

from tests.fuzz.bodies import CHAT
from tests.fuzz.shrink import smallest
from tests.fuzz.wire import Case


def test_only_what_fails_is_left() -> None:
    body = {
        "model": "reasoner",
        "messages": [{"role": "user", "content": "6+9*3-8=?"}],
        "stop": ["a", "b"],
        "control": {
            "thinking": {"budget": 7},
            "steer": [{"vector": "a", "strength": 0.5}, {"vector": "b", "strength": 1e39}],
        },
    }
    case = Case(CHAT, b"\n" + json.dumps(body).encode(), "Application/JSON")

    async def fails(smaller: Case) -> bool:
        steer = ((smaller.body or {}).get("control") or {}).get("steer") or []
        return any(term.get("strength") == 1e39 for term in steer)

    small = anyio.run(smallest, case, fails, 60.0)
    assert small.body == {"control": {"steer": [{"strength": 1e39}]}}
    assert small.content_type == "application/json"
