"""The facts of a request body are those of vLLM's own request models."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from vllm.exceptions import VLLMClientError

from steersman.api import facts
from steersman.capabilities import ToolGrammar
from steersman.request import Endpoint, Request

BODIES: Mapping[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    Endpoint.COMPLETIONS: {"prompt": "hi"},
    Endpoint.RESPONSES: {"input": "hi"},
}
"""The smallest body of each endpoint."""
REFUSED = (ValidationError, VLLMClientError, AttributeError, TypeError)
"""Errors of vLLM's models: some of their checks of whole bodies take objects for granted."""


def read(endpoint: Endpoint = Endpoint.CHAT, **fields: Any) -> Request:
    request = facts.read(endpoint, BODIES[endpoint] | fields)
    assert request is not None
    return request


numbers = st.one_of(
    st.integers(),
    st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**400]),
    st.floats(),
    st.sampled_from([1.0, 2.0, 0.0, -0.0, 1e30, 2.5]),
    st.booleans(),
    st.none(),
)
_SPELLED = "2|2.0|2.5| 2|02|+2|1_0|1e1|0x2|-0|true|True|yes|no|on|off|t|F|y|null|NaN|inf|| |\u0663"
spelled = st.sampled_from([*_SPELLED.split("|"), "9" * 5000])
scalars = st.one_of(numbers, spelled, st.text(max_size=3))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)
places = st.sampled_from([(where, name) for where, names in facts.FIELDS.items() for name in names])


@given(places, values)
def test_each_field_is_read_as_vllm_reads_it(place: tuple[Endpoint, str], value: Any) -> None:
    endpoint, name = place
    body = BODIES[endpoint] | {name: value}
    try:
        found = facts.values(endpoint, body)[name]
    except (ValidationError, VLLMClientError):
        # What is refused here, vLLM refuses: it never serves what was not planned.
        with pytest.raises(REFUSED):
            facts.MODELS[endpoint].model_validate(body)
        assert facts.read(endpoint, body) is None
        return
    try:
        known = facts.MODELS[endpoint].model_validate(body)
    except REFUSED:
        return  # for reasons of several fields: vLLM refuses what was planned
    wanted = known.__dict__[name]
    assert found == wanted or (found != found and wanted != wanted)
    assert type(found) is type(wanted)


@pytest.mark.parametrize("endpoint", Endpoint)
def test_an_absent_field_has_vllms_default(endpoint: Endpoint) -> None:
    known = facts.MODELS[endpoint].model_validate(dict(BODIES[endpoint]))  # it may write into it
    found = facts.values(endpoint, BODIES[endpoint])
    assert found == {name: known.__dict__[name] for name in facts.FIELDS[endpoint]}


@pytest.mark.parametrize("endpoint", Endpoint)
def test_no_field_that_is_read_has_a_second_name(endpoint: Endpoint) -> None:
    fields = facts.MODELS[endpoint].model_fields
    for name in facts.FIELDS[endpoint]:
        assert fields[name].alias is fields[name].validation_alias is None


def test_values_that_vllm_coerces() -> None:
    request = read(n="20", stream=1, use_beam_search="yes", temperature="0", max_tokens=5.0)
    assert request == Request(
        Endpoint.CHAT, stream=True, choices=20, max_tokens=5, temperature=0.0, beam_search=True
    )
    assert read(Endpoint.RESPONSES, background="true").background
    assert not read(include_reasoning="off").include_reasoning
    assert read(allowed_token_ids=["339", 2.0]).allowed_token_ids == {339, 2}


@pytest.mark.parametrize(
    "fields", [{"n": 2.5}, {"stream": "maybe"}, {"temperature": "hot"}, {"max_tokens": [1]}]
)
def test_what_does_not_convert_is_vllms_to_refuse(fields: dict[str, Any]) -> None:
    assert facts.read(Endpoint.CHAT, BODIES[Endpoint.CHAT] | fields) is None


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("a", 1),
        (["a", "b"], 2),
        ([1, 2, 3], 1),
        ([1.0, 2.0], 1),
        (["1", 2], 1),
        ([[1], [2], [3]], 3),
        ([], 1),
        (None, 1),
    ],
)
def test_prompts(prompt: Any, count: int) -> None:
    assert read(Endpoint.COMPLETIONS, prompt=prompt).prompts == count


def test_embeddings_are_prompts_too() -> None:
    request = read(Endpoint.COMPLETIONS, prompt=["a", "b"], prompt_embeds=["x", "y", "z"])
    assert (request.prompts, request.embeddings) == (5, True)
    assert read(Endpoint.COMPLETIONS, prompt=None, prompt_embeds="x").prompts == 1


def test_no_endpoint_reads_the_fields_of_another() -> None:
    assert read(Endpoint.RESPONSES, n=3, use_beam_search=True, prompt_embeds="x") == Request(
        Endpoint.RESPONSES, max_tokens_field="max_output_tokens"
    )
    assert read(Endpoint.COMPLETIONS, max_completion_tokens=9).max_tokens == 16
    assert not read(Endpoint.CHAT, background=True, prompt=["a", "b"]).background


@pytest.mark.parametrize(
    ("endpoint", "fields", "limit"),
    [
        (Endpoint.CHAT, {}, (None, "max_tokens")),
        (Endpoint.CHAT, {"max_tokens": 7, "max_completion_tokens": None}, (7, "max_tokens")),
        (
            Endpoint.CHAT,
            {"max_tokens": 7, "max_completion_tokens": 0},
            (0, "max_completion_tokens"),
        ),
        (Endpoint.COMPLETIONS, {"max_tokens": None}, (16, "max_tokens")),
        (Endpoint.RESPONSES, {"max_output_tokens": 7}, (7, "max_output_tokens")),
    ],
)
def test_the_token_limit_and_the_field_that_sets_it(
    endpoint: Endpoint, fields: dict[str, Any], limit: tuple[int | None, str]
) -> None:
    request = read(endpoint, **fields)
    assert (request.max_tokens, request.max_tokens_field) == limit


def test_vllms_own_budget_of_the_thinking_phase() -> None:
    assert read(thinking_token_budget=0).changes == ("thinking_token_budget",)
    assert read(thinking_token_budget=None).changes == ()
    assert read(thinking_token_budget=-1).changes == ()  # vLLM's word for none
    assert facts.read(Endpoint.CHAT, {"thinking_token_budget": -2}) is None


@pytest.mark.parametrize(
    ("endpoint", "fields", "grammar"),
    [
        (Endpoint.CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
        (Endpoint.CHAT, {"response_format": {"type": "text"}}, None),
        (Endpoint.CHAT, {"structured_outputs": {"choice": ["a"]}}, "structured_outputs"),
        (Endpoint.CHAT, {"tool_choice": "required"}, "tool_choice"),
        (Endpoint.CHAT, {"tool_choice": {"function": {"name": "f"}}}, "tool_choice"),
        (Endpoint.CHAT, {"tool_choice": "auto"}, None),
        (Endpoint.COMPLETIONS, {"tool_choice": "required"}, None),
        (Endpoint.COMPLETIONS, {"response_format": {"type": "json_object"}}, "response_format"),
        (Endpoint.RESPONSES, {"text": {"format": {"type": "json_object"}}}, "text.format"),
        (Endpoint.RESPONSES, {"text": {"format": {"type": "text"}}}, None),
        (Endpoint.RESPONSES, {"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        (Endpoint.RESPONSES, {"tool_choice": {"type": "allowed_tools"}}, None),
    ],
)
def test_what_binds_the_output_to_a_grammar(
    endpoint: Endpoint, fields: dict[str, Any], grammar: str | None
) -> None:
    assert read(endpoint, **fields).grammar == grammar


OBJECT: dict[str, Any] = {"type": "object", "properties": {}}


def tools(endpoint: Endpoint, **fields: Any) -> list[dict[str, Any]]:
    function = {"name": "f", "parameters": OBJECT, **fields}
    chat = endpoint is Endpoint.CHAT
    return [{"type": "function", "function": function} if chat else {"type": "function"} | function]


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.RESPONSES])
@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}])
def test_tools_that_need_not_be_called(endpoint: Endpoint, choice: dict[str, Any]) -> None:
    def grammar(server: ToolGrammar, strict: Any = None, **fields: Any) -> str | None:
        body = BODIES[endpoint] | choice | {"tools": tools(endpoint, strict=strict)} | fields
        request = facts.read(endpoint, body, server)
        assert request is not None
        return request.grammar

    for strict in (True, "true", 1):
        assert grammar(ToolGrammar.STRICT, strict) == "tools"
    for strict in (False, "false", 0, None):
        assert grammar(ToolGrammar.STRICT, strict) is None
    assert grammar(ToolGrammar.STRICT, parallel_tool_calls="no") == "parallel_tool_calls"
    assert grammar(ToolGrammar.STRICT, parallel_tool_calls=None) is None
    assert grammar(ToolGrammar.ALL) == "tools"
    assert grammar(ToolGrammar.ALL, tool_choice="none") is None
    assert grammar(ToolGrammar.ALL, tools=None if endpoint is Endpoint.CHAT else []) is None
    for none in (True, False):
        assert grammar(ToolGrammar.NONE, none, parallel_tool_calls=False) is None


def test_tools_in_a_namespace_are_tools() -> None:
    (tool,) = tools(Endpoint.RESPONSES, strict=True)
    space = {"type": "namespace", "name": "s", "description": "d", "tools": [tool]}
    body = BODIES[Endpoint.RESPONSES] | {"tools": [space]}
    request = facts.read(Endpoint.RESPONSES, body, ToolGrammar.STRICT)
    assert request is not None
    assert request.grammar == "tools"
