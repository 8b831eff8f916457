"""Fields beside a method that cannot stand them: refused by the plan, as vLLM would read them."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from vllm.exceptions import VLLMClientError, VLLMValidationError
from vllm.sampling_params import SamplingParams

from steersman.api import facts
from steersman.errors import ControlError
from steersman.frontend.arrival import check_arrival
from steersman.plan import Plan
from steersman.request import Endpoint, Request
from steersman.scope import ControlScope
from tests.unit.servers import planner

BODIES: Mapping[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20},
    Endpoint.COMPLETIONS: {"prompt": "hi", "max_tokens": 20},
    Endpoint.RESPONSES: {"input": "hi", "max_output_tokens": 20},
}
CAUTIOUS = {"sampler": {"method": "cautious"}}
ALIGN = {"search": {"method": "align", "target": {"power": 2.0}, "steps": 2, "burn_in": 1}}
PROMPT = {"type": "token", "prompt_token_ids": [4, 5, 6]}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
LAYOUT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
FUNCTION = {"name": "f", "parameters": SCHEMA}
BOTH, EXACT = (CAUTIOUS, ALIGN), (ALIGN,)
EVERYWHERE = tuple(Endpoint)
SAMPLED = (Endpoint.CHAT, Endpoint.COMPLETIONS)

CHANGES: tuple[tuple[tuple[dict[str, Any], ...], tuple[Endpoint, ...], str, Any], ...] = (
    (BOTH, EVERYWHERE, "presence_penalty", 0.5),
    (BOTH, EVERYWHERE, "presence_penalty", "-0.5"),
    (BOTH, EVERYWHERE, "frequency_penalty", 1),
    (BOTH, EVERYWHERE, "frequency_penalty", True),
    (EXACT, EVERYWHERE, "repetition_penalty", 1.1),
    (EXACT, EVERYWHERE, "repetition_penalty", "0.5"),
    (EXACT, EVERYWHERE, "stop", "x"),
    (EXACT, EVERYWHERE, "stop", ["x", "y"]),
    (EXACT, EVERYWHERE, "logit_bias", {"3": 1}),
    (EXACT, EVERYWHERE, "logit_bias", {"3": 0, "4": "-2.5"}),
    (EXACT, SAMPLED, "min_tokens", 2),
    (EXACT, SAMPLED, "min_tokens", "2"),
    (EXACT, SAMPLED, "allowed_token_ids", [3]),
    (BOTH, SAMPLED, "bad_words", ["x"]),
    (BOTH, SAMPLED, "thinking_token_budget", 0),
    (BOTH, SAMPLED, "thinking_token_budget", 4),
    (BOTH, SAMPLED, "repetition_detection", {"max_pattern_size": 3, "min_count": "2"}),
    (BOTH, EVERYWHERE, "structured_outputs", {"regex": "a+"}),
    (BOTH, EVERYWHERE, "structured_outputs", {"json_object": "true"}),
    (BOTH, SAMPLED, "response_format", {"type": "json_object"}),
    (BOTH, SAMPLED, "response_format", LAYOUT),
)
"""Methods and endpoints at which a value of a field is refused."""

PLAIN: tuple[tuple[tuple[Endpoint, ...], str, Any], ...] = (
    (EVERYWHERE, "presence_penalty", 0),
    (EVERYWHERE, "presence_penalty", None),
    (EVERYWHERE, "frequency_penalty", "0.0"),
    (EVERYWHERE, "repetition_penalty", 1),
    (EVERYWHERE, "repetition_penalty", "1"),
    (EVERYWHERE, "repetition_penalty", None),
    (EVERYWHERE, "stop", []),
    (EVERYWHERE, "stop", None),
    (EVERYWHERE, "logit_bias", {}),
    (EVERYWHERE, "logit_bias", {"3": 0}),
    (EVERYWHERE, "logit_bias", None),
    (EVERYWHERE, "structured_outputs", None),
    # Where a response ends, and no token's distribution.
    (EVERYWHERE, "stop_token_ids", [3]),
    (EVERYWHERE, "ignore_eos", True),
    (SAMPLED, "min_tokens", 0),
    (SAMPLED, "min_tokens", "0"),
    (SAMPLED, "allowed_token_ids", None),
    (SAMPLED, "bad_words", []),
    (SAMPLED, "thinking_token_budget", -1),
    (SAMPLED, "repetition_detection", None),
    (SAMPLED, "repetition_detection", {"max_pattern_size": 0}),
    (SAMPLED, "response_format", None),
    (SAMPLED, "response_format", {"type": "text"}),
    ((Endpoint.RESPONSES,), "text", {"format": {"type": "text"}}),
    ((Endpoint.RESPONSES,), "text", None),
    # Fields of other endpoints, and of no endpoint.
    ((Endpoint.RESPONSES,), "min_tokens", 2),
    ((Endpoint.RESPONSES,), "bad_words", ["x"]),
    ((Endpoint.RESPONSES,), "allowed_token_ids", [3]),
    ((Endpoint.RESPONSES,), "thinking_token_budget", 4),
    ((Endpoint.RESPONSES,), "response_format", {"type": "json_object"}),
    (SAMPLED, "text", {"format": {"type": "json_object"}}),
    ((Endpoint.COMPLETIONS,), "tool_choice", "required"),
    (EVERYWHERE, "vllm_xargs", {"presence_penalty": 1, "min_tokens": 4}),
    (EVERYWHERE, "guided_regex", "a+"),
)
"""Endpoints at which a value of a field changes nothing."""

HERE = [
    (control, endpoint, name, value)
    for controls, endpoints, name, value in CHANGES
    for control in controls
    for endpoint in endpoints
]
THERE = [
    (control, endpoint, name, value)
    for endpoints, name, value in PLAIN
    for control in BOTH
    for endpoint in endpoints
]
BESIDE_CAUTIOUS = [
    (CAUTIOUS, endpoint, name, value)
    for controls, endpoints, name, value in CHANGES
    if CAUTIOUS not in controls
    for endpoint in endpoints
]


def refusal(control: dict[str, Any], endpoint: Endpoint, fields: dict[str, Any]) -> str | None:
    """The field that the plan refuses; None if it refuses none."""
    try:
        plan(control, endpoint, fields)
    except ControlError as error:
        refused = error
    else:
        return None
    assert refused.status == 400
    assert refused.message.endswith(f": leave out {refused.param}")
    return refused.param


def plan(control: dict[str, Any], endpoint: Endpoint, fields: dict[str, Any]) -> Plan:
    request = facts.read(endpoint, BODIES[endpoint] | fields)
    assert request is not None
    return planner(measuring=True).plan(control, request)


def params(
    endpoint: Endpoint, fields: dict[str, Any], defaults: dict[str, Any] | None = None
) -> SamplingParams:
    """The sampling parameters that vLLM makes of a body."""
    model: Any = facts.MODELS[endpoint].model_validate(BODIES[endpoint] | fields)
    made: SamplingParams = model.to_sampling_params(20, defaults or {})
    return made


def arrives(planned: Plan, sampling: SamplingParams) -> None:
    control = ControlScope.of(planned, max_forks=64)
    check_arrival(control, PROMPT, sampling, grammar_in_thinking=False)


@pytest.mark.parametrize(("control", "endpoint", "name", "value"), HERE)
def test_a_change_is_refused_by_its_field(
    control: dict[str, Any], endpoint: Endpoint, name: str, value: Any
) -> None:
    assert refusal(control, endpoint, {name: value}) == name
    # As would be the engine call, had it not been for the plan.
    with pytest.raises(VLLMValidationError, match="cannot be applied") as caught:
        arrives(plan(control, endpoint, {}), params(endpoint, {name: value}))
    assert caught.value.parameter == ("structured_outputs" if name == "response_format" else name)


@pytest.mark.parametrize(("control", "endpoint", "name", "value"), THERE)
def test_a_value_that_changes_nothing_is_not(
    control: dict[str, Any], endpoint: Endpoint, name: str, value: Any
) -> None:
    assert refusal(control, endpoint, {name: value}) is None
    arrives(plan(control, endpoint, {name: value}), params(endpoint, {name: value}))


@pytest.mark.parametrize(("control", "endpoint", "name", "value"), BESIDE_CAUTIOUS)
def test_forks_stand_what_they_have_the_state_of(
    control: dict[str, Any], endpoint: Endpoint, name: str, value: Any
) -> None:
    arrives(plan(control, endpoint, {name: value}), params(endpoint, {name: value}))


@pytest.mark.parametrize("control", BOTH)
@pytest.mark.parametrize(
    ("endpoint", "fields", "param"),
    [
        (Endpoint.CHAT, {"tool_choice": "required"}, "tool_choice"),
        (
            Endpoint.CHAT,
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice",
        ),
        (Endpoint.RESPONSES, {"tool_choice": "required"}, "tool_choice"),
        (Endpoint.RESPONSES, {"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        (Endpoint.RESPONSES, {"text": {"format": {"type": "json_object"}}}, "text.format"),
        (
            Endpoint.RESPONSES,
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
            "text.format",
        ),
    ],
)
def test_grammars_of_tools_and_texts(
    control: dict[str, Any], endpoint: Endpoint, fields: dict[str, Any], param: str
) -> None:
    tool = {"type": "function", "function": FUNCTION} if endpoint is Endpoint.CHAT else FUNCTION
    tools = [{"type": "function", **tool}]
    assert refusal(control, endpoint, {"tools": tools, **fields}) == param


@pytest.mark.parametrize("control", [{}, {"search": {"method": "first_finish", "n": 2}}])
@pytest.mark.parametrize(("endpoints", "name", "value"), [one[1:] for one in CHANGES])
def test_other_methods_stand_all_of_them(
    control: dict[str, Any], endpoints: tuple[Endpoint, ...], name: str, value: Any
) -> None:
    for endpoint in endpoints:
        assert refusal(control, endpoint, {name: value}) is None


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(-2, 2),
    st.sampled_from(["0", "1", "-0.0", "1.0", "0.5", "", "x"]),
    st.lists(st.sampled_from(["x", 3]), max_size=2),
    st.dictionaries(st.sampled_from(["1", "x"]), st.sampled_from([0, "0", 2]), max_size=2),
    st.sampled_from([{"regex": "a"}, {"type": "text"}, {"type": "json_object"}]),
    st.sampled_from([{"max_pattern_size": 0}, {"max_pattern_size": 2, "min_count": 2}, {}]),
)
NAMES = sorted({one[2] for one in CHANGES})


@given(st.sampled_from(BOTH), st.sampled_from(EVERYWHERE), st.sampled_from(NAMES), values)
def test_the_plan_and_the_engine_call_agree(
    control: dict[str, Any], endpoint: Endpoint, name: str, value: Any
) -> None:
    try:
        sampling = params(endpoint, {name: value})
    except (ValidationError, VLLMClientError, AttributeError, TypeError, ValueError):
        return  # vLLM refuses it
    try:
        arrives(plan(control, endpoint, {}), sampling)
    except VLLMValidationError:
        assert refusal(control, endpoint, {name: value}) == name
    else:
        assert refusal(control, endpoint, {name: value}) is None


@pytest.mark.parametrize("endpoint", EVERYWHERE)
@pytest.mark.parametrize(
    ("control", "defaults"),
    [
        (ALIGN, {"repetition_penalty": 1.1}),
        (ALIGN, {"presence_penalty": 0.5}),
        (CAUTIOUS, {"presence_penalty": 0.5}),
        (CAUTIOUS, {"frequency_penalty": 0.5}),
    ],
)
def test_a_default_of_the_model_is_refused_unless_the_request_says_otherwise(
    control: dict[str, Any], defaults: dict[str, float], endpoint: Endpoint
) -> None:
    ((name, default),) = defaults.items()
    neutral = 1 if name == "repetition_penalty" else 0

    def planned(**fields: Any) -> Plan:
        body = BODIES[endpoint] | fields
        request = facts.read(endpoint, body, defaults=defaults)
        assert request is not None
        return planner(measuring=True, defaults=defaults).plan(control, request)

    for fields in ({}, {name: None}, {name: default}):
        with pytest.raises(ControlError, match=rf"set it to {neutral} \(by default .* {default:g}"):
            planned(**fields)
        with pytest.raises(VLLMValidationError, match="set by this server") as caught:
            arrives(plan(control, endpoint, {}), params(endpoint, fields, defaults))
        assert caught.value.parameter == name
    arrives(planned(**{name: neutral}), params(endpoint, {name: neutral}, defaults))


def test_a_grammar_that_a_parser_has_made_is_refused_on_arrival() -> None:
    sampling = params(Endpoint.CHAT, {"structured_outputs": {"regex": "a"}})
    with pytest.raises(VLLMValidationError, match="asks for a grammar") as caught:
        arrives(planner(measuring=True).plan(CAUTIOUS, Request(Endpoint.CHAT)), sampling)
    assert caught.value.parameter == "structured_outputs"
