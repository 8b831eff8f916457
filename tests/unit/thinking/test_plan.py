"""Governor options of a request are resolved, or refused with the field that is wrong."""

import json
import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from steersman.capabilities import Methods, Steering
from steersman.controls.monitor import MonitorPart
from steersman.controls.steering import SteeringPart
from steersman.controls.thinking import ThinkingPart
from steersman.errors import ControlError
from steersman.plan import Plan, Planner
from steersman.profiles import Profile
from steersman.request import Endpoint, Request
from steersman.steering.configuration import Term
from steersman.steering.plan import Steering as Steered
from steersman.thinking.governing import Governing, Probing
from steersman.trajectory.phases import Markers
from steersman.vectors.vector import Vector, VectorError, VectorMetadata
from tests.unit.servers import planner

CHAT = Request(Endpoint.CHAT, temperature=1.0)
METADATA: dict[str, Any] = {"site": "layer", "method": "test", "at": "boundary", "strength": 0.4}
CALIBRATED = Vector(
    {1: np.ones(8, np.float32)},
    VectorMetadata(**METADATA, layers=(1,), strength_range=(-0.5, 1.0)),
)
PLAIN = Vector({1: np.ones(8, np.float32)}, VectorMetadata(**METADATA))
BALANCE: dict[str, Any] = {"vector": "calm", "target_entropy": 0.3}
CONFIDENCE: dict[str, Any] = {"vector": "calm", "law": "confidence"}


class Shelf:
    def get(self, name: str) -> Vector:
        if name not in ("calm", "plain"):
            raise VectorError(f"unknown vector {name!r}", field="name")
        return CALIBRATED if name == "calm" else PLAIN


def governing(markers: Markers | None = None, **server: Any) -> Planner:
    """A planner for a server that steers, governs and monitors."""
    methods = Methods(steer=("add",), thinking=("budget", "balance"), monitor=("entropy",))
    bare = planner(methods=methods, **server)
    update: dict[str, Any] = {
        "steering": Steering(rows=2, bytes=0, runner="V1", model_digest=""),
        **({"thinking_tokens": markers} if markers else {}),
    }
    capabilities = bare.capabilities.model_copy(update=update)
    return replace(bare, capabilities=capabilities, vectors=Shelf())


def plan(thinking: dict[str, Any], **others: Any) -> Plan:
    return governing().plan({"thinking": thinking, **others}, CHAT)


def governed(plan: Plan) -> Governing:
    part = plan.part(ThinkingPart)
    assert part is not None
    return part.governing


def steered(plan: Plan) -> Steered:
    part = plan.part(SteeringPart)
    assert part is not None
    return part.steering


def refusal(control: object, request: Request = CHAT, **server: Any) -> ControlError:
    with pytest.raises(ControlError) as caught:
        governing(**server).plan(control, request)
    assert caught.value.status == 400
    return caught.value


def test_nothing_given_limits_nothing() -> None:
    planned = plan({})
    assert governed(planned) == Governing()
    assert not Governing().needs_entropy
    assert planned.part(SteeringPart) is None
    assert governed(plan({"on_loop": "ignore", "exit": None})) == Governing()


def test_everything_given() -> None:
    planned = governed(
        plan(
            {
                "budget": 100,
                "grace": 20,
                "min": 100,
                "nudge": "Hm",
                "exit": {"entropy_below": 0.2, "window": 16},
                "on_loop": "close",
                "min_answer_tokens": 5,
                "balance": {**BALANCE, "integral_gain": 0.1},
            }
        )
    )
    assert planned.needs_entropy
    assert json.loads(msgspec.json.encode(planned.message())) == {
        "budget": 100,
        "grace": 20,
        "minimum": 100,
        "nudge": [ord("H"), ord("m")],
        "window": 16,
        "entropy_below": 0.2,
        "on_loop": True,
        "min_answer": 5,
        "law": {
            "kind": "proportional",
            "target": 0.3,
            "gain": 0.5,
            "integral_gain": 0.1,
            "base": 0.4,
            "low": -0.5,
            "high": 1.0,
            "confidence": [0.65, 0.9],
            "variance": [0.0005, 0.01],
        },
    }


def test_a_minimum_has_the_default_nudge() -> None:
    planned = governed(plan({"min": 3}))
    assert planned is not None
    assert bytes(planned.nudge) == b"Wait"


@pytest.mark.parametrize(
    ("thinking", "param", "message"),
    [
        ({"budget": -1}, "budget", "greater than or equal to 0"),
        ({"budget": 2**24 + 1}, "budget", "less than or equal"),
        ({"budget": 513}, "budget", "more tokens than this model's context has: 512"),
        ({"budget": True}, "budget", "valid integer"),
        ({"budget": 9, "grace": 4097}, "grace", "less than or equal"),
        ({"grace": 1}, "grace", "what may follow a budget"),
        ({"min": 513}, "min", "context has: 512"),
        ({"min": 11, "budget": 10, "grace": 5}, "min", r"min \(11\) is above budget \(10\)"),
        ({"min_answer_tokens": 513}, "min_answer_tokens", "context has: 512"),
        ({"min_answer_tokens": 4097}, "min_answer_tokens", "less than or equal"),
        ({"min_answer_tokens": -1}, "min_answer_tokens", "greater than or equal"),
        ({"min": 1, "nudge": ""}, "nudge", "at least 1 character"),
        ({"min": 1, "nudge": "x" * 65}, "nudge", "at most 64 characters"),
        ({"min": 1, "nudge": "x" * 17}, "nudge", "is 17 tokens of this model"),
        ({"min": 1, "nudge": "a\x02b"}, "nudge", "marker of the thinking phase"),
        ({"nudge": "Hm"}, "nudge", "there is no min"),
        ({"exit": {}}, "exit.entropy_below", "is required"),
        ({"exit": {"entropy_below": 0}}, "exit.entropy_below", "greater than 0"),
        ({"exit": {"entropy_below": math.nan}}, "exit.entropy_below", "finite"),
        ({"exit": {"entropy_below": 1, "window": 0}}, "exit.window", "greater than or equal"),
        ({"exit": {"entropy_below": 1, "window": 257}}, "exit.window", "less than or equal"),
        ({"on_loop": "stop"}, "on_loop", "'close' or 'ignore'"),
        ({"maximum": 3}, "maximum", "unknown field"),
        ({"balance": {}}, "balance.vector", "is required"),
        ({"balance": {**BALANCE, "vector": "x"}}, "balance.vector", "unknown vector 'x'"),
        ({"balance": {**BALANCE, "vector": "plain"}}, "balance.vector", "directions calibrate"),
        ({"balance": {**BALANCE, "strength": 1.1}}, "balance.strength", "range -0.5 to 1"),
        ({"balance": {**BALANCE, "law": "pid"}}, "balance.law", "'proportional' or 'confid"),
        ({"balance": {"vector": "calm"}}, "balance.target_entropy", "needs the entropy"),
        ({"balance": {**BALANCE, "target_entropy": -1}}, "balance.target_entropy", "or equal to 0"),
        ({"balance": {**CONFIDENCE, "target_entropy": 1}}, "balance.target_entropy", "no place"),
        ({"balance": {**CONFIDENCE, "gain": 1}}, "balance.gain", "no place in the law 'conf"),
        ({"balance": {**BALANCE, "variance": [0, 1]}}, "balance.variance", "no place"),
        ({"balance": {**BALANCE, "gain": math.inf}}, "balance.gain", "finite"),
        ({"balance": {**BALANCE, "gain": -1e308}}, "balance.gain", "or equal to -1000000"),
        ({"balance": {**BALANCE, "integral_gain": 1e7}}, "balance.integral_gain", "1000000"),
        ({"balance": {**BALANCE, "target_entropy": 1e308}}, "balance.target_entropy", "to 100"),
        ({"exit": {"entropy_below": 1e308}}, "exit.entropy_below", "or equal to 100"),
        ({"balance": {**CONFIDENCE, "confidence": [0, 5e-324]}}, "balance.confidence", "0.0001 ap"),
        ({"balance": {**CONFIDENCE, "confidence": [0.9, 0.9]}}, "balance.confidence", "low, then"),
        (
            {"balance": {**CONFIDENCE, "confidence": [0.5, 1.1]}},
            "balance.confidence[1]",
            "or equal",
        ),
        ({"balance": {**CONFIDENCE, "confidence": ["0.5", 1]}}, "balance.confidence[0]", "number"),
        ({"balance": {**CONFIDENCE, "confidence": [0.5]}}, "balance.confidence[1]", "required"),
        ({"balance": {**CONFIDENCE, "variance": 0.5}}, "balance.variance", "valid tuple"),
    ],
)
def test_what_cannot_be_done_names_its_field(
    thinking: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(ControlError, match=message) as caught:
        plan(thinking)
    assert caught.value.param == f"control.thinking.{param}"


def test_a_nudge_that_is_no_token_is_refused() -> None:
    silent = replace(governing(), encode=lambda _: [])
    with pytest.raises(ControlError, match="is 0 tokens"):
        silent.plan({"thinking": {"min": 1}}, CHAT)


@pytest.mark.parametrize(
    ("thinking", "param"),
    [
        ({}, "control.thinking"),
        ({"budget": 0}, "control.thinking.budget"),
        ({"exit": {"entropy_below": 0.1}}, "control.thinking.exit"),
        ({"on_loop": "close", "min": 4}, "control.thinking.min"),
    ],
)
def test_a_model_that_does_not_think_cannot_be_governed(
    thinking: dict[str, Any], param: str
) -> None:
    error = refusal({"thinking": thinking}, thinking=False)
    assert error.param == param
    assert "needs a model with a thinking phase; this server knows of none" in error.message
    assert governing(thinking=False).plan({"monitor": {}}, CHAT).part(MonitorPart)


def test_a_server_without_steering_says_how_it_was_started() -> None:
    for part in ("thinking", "monitor"):
        with pytest.raises(ControlError) as caught:
            planner().plan({part: {}}, CHAT)
        assert caught.value.param == f"control.{part}"
        assert caught.value.message == (
            f"{part} is not supported by this server: it was started with --no-steering"
        )


def test_markers_of_several_tokens_are_governed_like_any_other() -> None:
    long = Markers(start=(1, 3), end=(2, 3), start_text="<a>", end_text="</a>")
    for thinking in ({"budget": 4}, {"balance": BALANCE}):
        assert governed(governing(long).plan({"thinking": thinking}, CHAT))


def test_the_balanced_vector_is_a_term_of_its_own() -> None:
    terms = [{"vector": "plain", "phase": "answer"}]
    steering = steered(plan({"balance": BALANCE}, steer=terms))
    assert steering is not None
    assert [term.name for term in steering.terms] == ["plain"]
    assert steering.balance is not None
    assert steering.balance.name == "calm"
    assert steering.balance.term == Term(CALIBRATED.digest, 1.0, (1,), "thinking", "boundary")
    assert steering.vectors == (PLAIN, CALIBRATED)
    assert len(steering.rows) == 2


@pytest.mark.parametrize("phase", [None, "all", "thinking"])
def test_nothing_else_is_steered_while_a_vector_is_balanced(phase: str | None) -> None:
    answer = {"vector": "plain", "phase": "answer"}
    control = {
        "thinking": {"balance": BALANCE},
        "steer": [answer, {"vector": "plain", "phase": phase}],
    }
    error = refusal(control)
    assert error.param == "control.steer[1].phase"
    assert "moves the strength of everything that is steered while thinking" in error.message


@pytest.mark.parametrize(
    "other",
    [
        {**BALANCE, "target_entropy": 0.4},
        {**BALANCE, "gain": 0.6},
        {**BALANCE, "integral_gain": 0.1},
        {**BALANCE, "strength": 0.5},
        CONFIDENCE,
        {**CONFIDENCE, "confidence": [0.6, 0.9]},
        {**CONFIDENCE, "variance": [0.0, 0.01]},
    ],
)
def test_another_law_shares_no_steered_block(other: dict[str, Any]) -> None:
    def digest(balance: dict[str, Any]) -> str:
        steering = steered(plan({"balance": balance}))
        assert steering is not None
        return steering.configuration.digest

    assert digest(other) != digest(BALANCE)
    assert digest(other) == digest(dict(other))
    assert digest({**BALANCE, "strength": 0.4}) == digest(BALANCE)


@pytest.mark.parametrize(
    ("control", "request_", "param"),
    [
        (
            {"thinking": {"budget": 3}},
            Request(Endpoint.CHAT, changes=("thinking_token_budget",)),
            "thinking_token_budget",
        ),
        (
            {"thinking": {"budget": 3}},
            Request(Endpoint.COMPLETIONS, embeddings=True),
            "prompt_embeds",
        ),
        ({"monitor": {}}, Request(Endpoint.COMPLETIONS, embeddings=True), "prompt_embeds"),
        ({"thinking": {}}, Request(Endpoint.CHAT, stop_token_ids=49), "stop_token_ids"),
        (
            {"thinking": {}},
            Request(Endpoint.CHAT, changes=("tool_choice",), include_reasoning=False),
            "include_reasoning",
        ),
        (
            {
                "thinking": {"budget": 3, "grace": 1},
                "search": {"method": "first_finish", "n": 2, "min_thinking": 5},
            },
            CHAT,
            "control.search.min_thinking",
        ),
    ],
)
def test_a_conflict_with_the_rest_of_the_request(
    control: dict[str, Any], request_: Request, param: str
) -> None:
    assert refusal(control, request_).param == param


def test_what_the_governor_may_write_has_to_be_allowed() -> None:
    markers = governing().capabilities.thinking_tokens
    assert markers is not None
    server = governing()
    nudged = {"thinking": {"min": 4, "nudge": "Hm"}}
    nudge = server.encode("Hm")

    def allowing(*tokens: int) -> Request:
        return Request(Endpoint.CHAT, allowed_token_ids=frozenset(tokens))

    server.plan({"thinking": {"budget": 3}}, allowing(*markers.end))
    server.plan(nudged, allowing(*markers.end, *nudge))
    server.plan({"monitor": {}}, allowing(9))
    caught = refusal(nudged, allowing(*markers.end))
    assert caught.param == "allowed_token_ids"
    assert "the nudge" in caught.message
    assert str(list(markers.end)) in refusal({"thinking": {}}, allowing(9)).message


@pytest.mark.parametrize(
    ("thinking", "param"),
    [({"budget": 3}, "control.thinking.budget"), ({"on_loop": "close"}, "control.thinking")],
)
def test_a_grammar_that_binds_the_thinking_leaves_nothing_to_govern(
    thinking: dict[str, Any], param: str
) -> None:
    bare = governing()
    capabilities = bare.capabilities.model_copy(update={"grammar_in_thinking": True})
    bound = replace(bare, capabilities=capabilities)
    request = replace(CHAT, changes=("response_format",))
    with pytest.raises(ControlError, match="response_format is a grammar") as caught:
        bound.plan({"thinking": thinking}, request)
    assert caught.value.param == param
    assert governed(bound.plan({"thinking": thinking}, CHAT))
    assert bound.plan({"monitor": {}}, request).part(MonitorPart)
    assert governed(bare.plan({"thinking": thinking}, request))


def test_vllms_own_budget_goes_with_every_other_control() -> None:
    request = Request(Endpoint.CHAT, changes=("thinking_token_budget",))
    assert governing().plan({"monitor": {"tokens": True}}, request).part(MonitorPart)


def test_a_profile_is_merged_under_the_request() -> None:
    profiles = {
        "brief": Profile(
            control={"thinking": {"budget": 50, "grace": 8}, "monitor": {"tokens": True}}
        )
    }
    server = governing(profiles=profiles)
    server.check_profiles()
    planned = server.plan({"profile": "brief", "thinking": {"budget": 0}, "monitor": None}, CHAT)
    assert governed(planned) == Governing(budget=0, grace=8)
    assert planned.part(MonitorPart) is None


def test_balance_needs_the_logits_on_every_stage() -> None:
    bare = governing()
    methods = Methods(steer=("add",), thinking=("budget",))
    staged = replace(bare, capabilities=bare.capabilities.model_copy(update={"methods": methods}))
    with pytest.raises(ControlError, match="pipeline parallelism") as caught:
        staged.plan({"thinking": {"balance": CONFIDENCE}}, CHAT)
    assert caught.value.param == "control.thinking.balance"


def test_the_answer_is_asked_for_beside_the_thinking() -> None:
    planned = governed(plan({"certainty": {}}))
    assert planned is not None
    assert planned.probing == Probing(every=64, agree=3, max_tokens=32)
    assert planned.message() == Governing().message()
    error = refusal({"thinking": {"certainty": {}, "balance": CONFIDENCE}})
    assert error.param == "control.thinking.certainty"
