"""Limits of a request, events in its stream, and its plan, on the real server."""

import json
from typing import Any

import pytest

from steersman_client import ControlSpec, Steersman, receipt_of
from tests.http.server import Server
from tests.http.waiting import SOON

QUESTION: list[Any] = [{"role": "user", "content": "8*7-4+11=?"}]
ASKED: dict[str, Any] = {"model": "reasoner", "messages": QUESTION, "temperature": 1.0, "seed": 3}
ENDLESS = {"ignore_eos": True, "min_tokens": 300}
LONG: dict[str, Any] = {**ASKED, "extra_body": ENDLESS, "max_tokens": 400}

SHORTLY: dict[str, Any] = {"extra_headers": {"X-Steersman-Timeout": "0.05"}}


def spec(**fields: Any) -> ControlSpec:
    return ControlSpec.model_validate(fields)


@pytest.mark.scale
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "search", [None, {"method": "first_finish", "n": 4}, {"method": "majority", "n": 4}]
)
def test_at_its_tokens_a_request_ends_with_what_there_is(
    thinker: Steersman, reasoner: Server, stream: bool, search: Any
) -> None:
    control = spec(limits={"max_sampled_tokens": 120}, search=search)
    if stream:
        chunks = [*thinker.chat.completions.create(**LONG, stream=True, control=control)]
        reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
        receipt, reason = chunks[-1].control, next(filter(None, reasons))
    else:
        answer = thinker.chat.completions.create(**LONG, control=control)
        receipt, reason = answer.control, answer.choices[0].finish_reason
    assert receipt is not None
    assert receipt.applied.stopped_by == "max_sampled_tokens"
    assert reason == "length"
    branches = 1 if search is None else 4
    assert 120 <= receipt.compute.sampled_tokens <= branches * 120
    assert 0 < receipt.compute.returned_tokens <= 120
    assert reasoner.wait_for_metric("vllm:num_requests_running", 0, SOON)


def test_at_its_seconds_too(thinker: Steersman) -> None:
    many = {**LONG, "max_tokens": 480}
    control = spec(limits={"max_seconds": 0.3}, search={"method": "majority", "n": 16})
    receipt = thinker.chat.completions.create(**many, control=control).control
    assert receipt is not None
    assert receipt.applied.stopped_by == "max_seconds"


@pytest.mark.scale
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "control",
    [
        {},
        {"search": {"method": "first_finish", "n": 4, "min_thinking": 400}},
        {"search": {"method": "majority", "n": 8}},
        {"search": {"method": "align", "target": {"power": 4}, "steps": 1000}},
        {"sampler": {"method": "cautious"}},
        {"thinking": {"certainty": {"every": 8}}},
    ],
)
def test_the_deadline_of_a_header_holds_in_every_method(
    thinker: Steersman, control: Any, stream: bool
) -> None:
    asked: dict[str, Any] = {**ASKED, **SHORTLY}
    if control.get("search", {}).get("method") != "align":
        asked |= {"max_tokens": 480, "extra_body": {"ignore_eos": True}}
    if control:
        asked["control"] = spec(**control)
    if stream:
        answer: Any = [*thinker.chat.completions.create(**asked, stream=True)][-1]
    else:
        answer = thinker.chat.completions.create(**asked)
    assert answer.control is not None
    assert answer.control.applied.stopped_by == "max_seconds"


@pytest.mark.parametrize("stream", [False, True])
def test_it_holds_for_all_prompts_of_a_request_and_in_responses(
    thinker: Steersman, stream: bool
) -> None:
    common: dict[str, Any] = {"model": "reasoner", "temperature": 1.0, "stream": stream, **SHORTLY}
    endless = {"extra_body": {"ignore_eos": True}}
    prompts = ["8*7-4=?", "1+1=?", "9-3=?"]
    texts: Any = thinker.completions.create(prompt=prompts, max_tokens=480, **common, **endless)
    answer: Any = thinker.responses.create(
        input="8*7-4+11=?", max_output_tokens=480, **common, **endless
    )
    for one in (texts, answer):
        last = [*one][-1] if stream else one
        receipt = receipt_of(getattr(last, "response", last))
        assert receipt is not None
        assert receipt.applied.stopped_by == "max_seconds"


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_ends_before_its_first_token_has_a_receipt(
    thinker: Steersman, stream: bool
) -> None:
    control = spec(limits={"max_seconds": 1e-6})
    if not stream:
        chat: Any = thinker.chat.completions.create(**LONG, n=3, control=control)
        text: Any = thinker.completions.create(
            model="reasoner", prompt="1+1=", n=3, control=control
        )
        ends = [[choice.finish_reason for choice in one.choices] for one in (chat, text)]
        receipts = [chat.control, text.control]
    else:
        chat = [*thinker.chat.completions.create(**LONG, n=3, stream=True, control=control)]
        text = [
            *thinker.completions.create(
                model="reasoner", prompt="1+1=", n=3, stream=True, control=control
            )
        ]
        ends = [
            [c.finish_reason for chunk in one for c in chunk.choices if c.finish_reason]
            for one in (chat, text)
        ]
        receipts = [chat[-1].control, text[-1].control]
    assert ends == [["length"] * 3] * 2
    assert all(one is not None and one.applied.stopped_by == "max_seconds" for one in receipts)


def test_a_request_within_its_limits_is_the_same(thinker: Steersman) -> None:
    plain = thinker.chat.completions.create(**ASKED)
    control = spec(limits={"max_sampled_tokens": 4000, "max_seconds": 100})
    limited = thinker.chat.completions.create(**ASKED, control=control)
    assert limited.choices[0].message.content == plain.choices[0].message.content
    assert limited.control is not None
    assert limited.control.applied.stopped_by is None


def test_a_stream_tells_of_every_branch(reasoner: Server) -> None:
    control = {
        "search": {"method": "majority", "n": 3},
        "events": ["branches", "progress"],
    }
    body = {**ASKED, "stream": True, "max_tokens": 300, "ignore_eos": True, "control": control}
    texts = dict.fromkeys(range(3), "")
    told: list[dict[str, Any]] = []
    with (
        reasoner.client() as http,
        http.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "branches" in chunk.get("control", {}):
                assert chunk["choices"][0]["delta"] == {}
                for news in chunk["control"]["branches"]:
                    texts[news["branch"]] += news["text"]
            told.append(chunk.get("control", {}))
    assert any("progress" in control for control in told)
    assert all(texts.values())
    assert "applied" in told[-1]


def test_events_on_responses_are_comments(reasoner: Server) -> None:
    control = {"search": {"method": "majority", "n": 8}, "events": ["progress"]}
    body = {"model": "reasoner", "input": "8*7-4+11=?", "stream": True, "temperature": 1.0,
            "control": control}  # fmt: skip
    with reasoner.client() as http, http.stream("POST", "/v1/responses", json=body) as answer:
        lines = [*answer.iter_lines()]
    comments = [line for line in lines if line.startswith(": steersman ")]
    assert comments
    assert set(json.loads(comments[0].removeprefix(": steersman "))) == {"progress"}
    assert any('"applied"' in line for line in lines)


def test_the_plan_of_a_request_costs_nothing(reasoner: Server) -> None:
    control = {"profile": "concise", "search": {"method": "majority", "n": 4}}
    body = {**ASKED, "max_tokens": 50, "control": control}
    with reasoner.client() as http:
        before = reasoner.metric("vllm:generation_tokens_total")
        answer = http.post("/v1/control/plan", json=body)
        refused = http.post("/v1/control/plan", json={**body, "n": 9})
        stranger = http.post("/v1/control/plan", json=body, headers={"Authorization": "Bearer x"})
        assert reasoner.metric("vllm:generation_tokens_total") == before
    assert answer.status_code == 200
    assert (answer.json()["branches"], answer.json()["max_sampled_tokens"]) == (4, 200)
    assert refused.json()["error"]["param"] == "n"
    assert stranger.status_code == 401
