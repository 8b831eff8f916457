"""The plan of a request, told without running it."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from steersman.api import planned
from steersman.api.middleware import ControlMiddleware
from steersman.capabilities import Limits
from steersman.observe.metrics import Metrics
from steersman.request import Endpoint
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}


async def ask(body: Any, **query: str) -> httpx.Response:
    """Ask a server whose middleware stands before the route, as in the real one."""
    server = planner(limits=Limits(max_branches=16, max_control_tokens=1000))
    app = FastAPI()
    app.include_router(planned.router(server))
    whole = ControlMiddleware(app, planner=server, metrics=Metrics(CollectorRegistry()))
    transport = httpx.ASGITransport(app=whole)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        content = body if isinstance(body, bytes) else None
        return await client.post(
            planned.PATH, params=query, json=None if content else body, content=content
        )


async def test_a_search_is_told_with_its_profile_and_its_cost() -> None:
    control = {"profile": "fast", "search": {"n": 4}, "limits": {"max_sampled_tokens": 150}}
    answer = await ask({**CHAT, "model": "tiny", "max_tokens": 50, "control": control})
    assert answer.status_code == 200
    assert answer.json() == {
        "endpoint": "/v1/chat/completions",
        "method": "first_finish",
        "profile": "fast",
        "control": {
            "profile": "fast",
            "search": {"method": "first_finish", "n": 4, "min_thinking": 2},
            "limits": {"max_sampled_tokens": 150},
        },
        "prompts": 1,
        "branches": 4,
        "max_tokens": 50,
        "max_sampled_tokens": 150,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"n": 0}, "n"), ({"n": -2}, "n"), ({"max_completion_tokens": -1}, "max_completion_tokens")],
)
async def test_numbers_that_no_request_can_have_are_refused(
    fields: dict[str, int], param: str
) -> None:
    answer = await ask({**CHAT, **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("body", "endpoint", "numbers"),
    [
        (CHAT, Endpoint.CHAT, (1, 1, 512, 512)),
        ({**CHAT, "n": 3}, Endpoint.CHAT, (1, 3, 333, 999)),
        ({**CHAT, "n": "2", "max_tokens": 9}, Endpoint.CHAT, (1, 2, 9, 18)),
        ({"prompt": ["a", "b"], "model": "tiny:fast"}, Endpoint.COMPLETIONS, (2, 6, 16, 96)),
        ({"input": "a", "max_output_tokens": 7}, Endpoint.RESPONSES, (1, 1, 7, 7)),
    ],
)
async def test_branches_and_tokens_at_most(
    body: dict[str, Any], endpoint: str, numbers: tuple[int, ...]
) -> None:
    answer = (await ask(body, endpoint=endpoint)).json()
    names = ("prompts", "branches", "max_tokens", "max_sampled_tokens")
    assert tuple(answer[name] for name in names) == numbers


@pytest.mark.parametrize(
    ("body", "query", "param"),
    [
        (
            {**CHAT, "control": {"search": {"method": "first_finish", "n": 17}}},
            {},
            "control.search.n",
        ),
        ({**CHAT, "control": {"nonsense": 1}}, {}, "control.nonsense"),
        ({**CHAT, "model": "tiny:slow"}, {}, "model"),
        (CHAT, {"endpoint": "/v1/messages"}, "endpoint"),
        ({**CHAT, "n": "many"}, {}, None),
        ([], {}, None),
        (b"{", {}, None),
    ],
)
async def test_what_could_not_be_planned_is_refused_as_the_endpoint_would(
    body: Any, query: dict[str, str], param: str | None
) -> None:
    answer = await ask(body, **query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
