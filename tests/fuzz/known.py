"""Plain seeded requests whose answers are known: nobody else's request may change them."""

import json
from collections.abc import Mapping
from typing import Any, Self

import httpx

from tests.fuzz.bodies import CHAT, COMPLETIONS, RESPONSES
from tests.fuzz.invariants import Violation

_LONG = "Here is a long list of small sums: " + ", ".join(
    f"{i}+{i + 1}={2 * i + 1}" for i in range(9)
)


def _questions(model: str) -> list[tuple[str, dict[str, Any]]]:
    def chat(content: str, **fields: Any) -> tuple[str, dict[str, Any]]:
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 40, **fields}
        return CHAT, {"model": model, **body}

    return [
        *(chat("6+9*3-8=?", seed=seed) for seed in range(4)),
        chat("5*7-4+1=?", seed=5, logprobs=True, top_logprobs=3),
        chat(f"{_LONG} 7+8=?", seed=6),
        chat("5*7-4+1=?", seed=7, cache_salt="known", n=2),
        chat("9*9=?", temperature=0, max_tokens=60),
        (COMPLETIONS, {"model": model, "prompt": "3+4=", "max_tokens": 30, "seed": 8}),
        (COMPLETIONS, {"model": model, "prompt": _LONG, "max_tokens": 30, "seed": 9}),
        (
            RESPONSES,
            {"model": model, "input": "8-3*2=?", "max_output_tokens": 40, "temperature": 0},
        ),
    ]


class KnownAnswers:
    """The answers to some plain requests, as they were at the start.

    Args:
        answers: Each request with its answer.

    """

    def __init__(self, answers: list[tuple[str, dict[str, Any], str]]) -> None:
        self._answers = answers

    @classmethod
    async def record(cls, http: httpx.AsyncClient, model: str) -> Self:
        """Ask for them, each twice: with the prompt computed, and with it in the prefix cache.

        Raises:
            RuntimeError: The server gives two answers to one request by itself.

        """
        answers = []
        for endpoint, body in _questions(model):
            first, second = [await _ask(http, endpoint, body) for _ in range(2)]
            if first != second:
                raise RuntimeError(f"{endpoint} {json.dumps(body)}: {first} and then {second}")
            answers.append((endpoint, body, first))
        return cls(answers)

    async def changed(
        self, http: httpx.AsyncClient, first: int = 0, count: int = 0
    ) -> list[Violation]:
        """The answers that are not what they were.

        Args:
            http: Client of the server.
            first: Which to begin with; past the last one it begins anew.
            count: How many to ask for; all if 0.

        """
        known = self._answers
        asked = [known[(first + i) % len(known)] for i in range(count or len(known))]
        changed = []
        for endpoint, body, before in asked:
            after = await _ask(http, endpoint, body)
            if after != before:
                detail = f"{endpoint} {json.dumps(body)} gave {before}\nand now gives {after}"
                changed.append(Violation("changed answer", detail))
        return changed


async def _ask(http: httpx.AsyncClient, endpoint: str, body: Mapping[str, Any]) -> str:
    try:
        response = await http.post(endpoint, json=body, timeout=120)
    except httpx.HTTPError as error:
        return f"no answer: {type(error).__name__}"
    return _said(response)


def _said(response: httpx.Response) -> str:
    """Content of an answer, without ids and times, which differ from one to the next."""
    if response.status_code != 200:
        return f"{response.status_code} {response.text}"
    answer = response.json()
    if "output" in answer:
        return json.dumps([item["content"][0]["text"] for item in answer["output"]])
    return json.dumps([answer["choices"], answer["usage"]["completion_tokens"]])
