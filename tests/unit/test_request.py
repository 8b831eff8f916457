"""The facts of a request body; what has the wrong type is left for vLLM to refuse."""

from typing import Any

import pytest

from steersman.request import Endpoint, Request


@pytest.mark.parametrize(
    ("prompt", "count"),
    [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2], [3]], 3), ([], 1), (None, 1)],
)
def test_prompts(prompt: Any, count: int) -> None:
    assert Request.of(Endpoint.COMPLETIONS, {"prompt": prompt}).prompts == count


def test_embeddings_are_prompts_too() -> None:
    body = {"prompt": ["a", "b"], "prompt_embeds": ["x", "y", "z"]}
    assert Request.of(Endpoint.COMPLETIONS, body).prompts == 5
    assert Request.of(Endpoint.COMPLETIONS, {"prompt_embeds": "x"}).prompts == 1


def test_a_reusable_prompt_of_the_responses_api_is_one() -> None:
    assert Request.of(Endpoint.RESPONSES, {"prompt": ["a", "b"]}).prompts == 1


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_the_token_limit_and_the_field_that_sets_it(field: str) -> None:
    request = Request.of(Endpoint.CHAT, {field: 7})
    assert (request.max_tokens, request.max_tokens_field) == (7, field)


def test_wrong_types_count_as_absent() -> None:
    body = {"n": "3", "max_tokens": 1.5, "temperature": "hot", "stream": 1, "use_beam_search": "y"}
    assert Request.of(Endpoint.CHAT, body) == Request(Endpoint.CHAT)


def test_everything_else() -> None:
    body = {"n": 2, "temperature": 0, "stream": True, "use_beam_search": True, "background": True}
    request = Request.of(Endpoint.CHAT, body)
    assert (request.choices, request.temperature) == (2, 0)
    assert request.stream
    assert request.beam_search
    assert request.background


def test_vllms_own_budget_of_the_thinking_phase() -> None:
    assert Request.of(Endpoint.CHAT, {"thinking_token_budget": 0}).thinking_token_budget
    assert not Request.of(Endpoint.CHAT, {"thinking_token_budget": None}).thinking_token_budget
