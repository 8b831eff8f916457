"""Chains towards a reward on the real engine: their steps, their books, and rewards that fail."""

import json
import uuid
from typing import Any

import httpx
import openai
import pytest

from steersman_client import Align, ControlSpec, Limits, Receipt, RewardTerm, Steersman, Target
from tests.http.server import Server
from tests.http.waiting import SOON, impatient

QUESTION: list[Any] = [{"role": "user", "content": "8*7-4+11=?"}]
ASKED: dict[str, Any] = {
    "model": "reasoner",
    "messages": QUESTION,
    "seed": 7,
    "temperature": 1.0,
    "max_tokens": 300,
}
FAULTS = {
    "slow": (504, "took over 0.2 s"),
    "broken": (502, "the disk is full"),
    "unsure": (502, "a score is NaN"),
    "short": (502, "0 scores for 1 responses"),
}
VERIFY = {"name": "verify", "data": {"reference": "63"}}


def align(reward: Any, events: Any = (), limits: Limits | None = None, **fields: Any) -> Any:
    target = Target.model_validate({"reward": reward})
    search = Align(method="align", target=target, **fields)
    return ControlSpec(search=search, events=events, limits=limits)


def search_of(receipt: Receipt | None) -> Any:
    assert receipt is not None
    assert receipt.applied.search is not None
    return receipt.applied.search


def test_a_seeded_chain_repeats_and_every_score_is_paid_for(thinker: Steersman) -> None:
    found = []
    for ahead in (1, 3, None):
        control = align(VERIFY, steps=6, chains=2, look_ahead=ahead, return_chain=True)
        answer = thinker.chat.completions.create(**ASKED, control=control)
        search = search_of(answer.control)
        assert answer.control is not None
        compute = answer.control.compute
        assert search.steps == 12
        assert 0 < compute.reward_calls <= 14  # open thinking has no score
        assert compute.reward_tokens >= compute.reward_calls
        assert {step.target for step in search.chain} <= {0.0, 1.0, -40.0}
        assert search.target_chosen in {0.0, 1.0, -40.0}
        found.append((answer.choices[0].message.content, search.chain, compute.reward_calls))
    assert found == found[:1] * 3


@pytest.mark.scale
def test_a_reward_is_raised(thinker: Steersman) -> None:
    control = align({"name": "brief", "see": "all"}, steps=16, select="last")
    receipts = [
        thinker.chat.completions.create(**{**ASKED, "seed": seed}, control=control).control
        for seed in (7, 8, 9)
    ]
    gains = [search_of(one).target_end - search_of(one).target_start for one in receipts]
    assert sum(gains) > 0


def test_a_reward_knows_what_was_asked(thinker: Steersman) -> None:
    question = QUESTION[0]["content"]
    told = {"name": "asked", "data": {"text": question, "messages": [question]}}
    chat = thinker.chat.completions.create(**ASKED, control=align(told, steps=1))
    told = {"name": "asked", "data": {"text": question, "messages": []}}
    text = thinker.completions.create(
        model="reasoner", prompt=question, temperature=1, control=align(told, steps=1)
    )
    other = {"name": "asked", "data": {"text": "8*8", "messages": []}}
    wrong = thinker.completions.create(
        model="reasoner", prompt=question, temperature=1, control=align(other, steps=1)
    )
    found = [search_of(one.control).target_chosen for one in (chat, text, wrong)]
    for score, wanted in zip(found, (1, 1, 0), strict=True):
        assert score in {wanted, -40}  # open thinking is not looked at
    assert max(found) == 1


def test_the_model_s_own_opinion_is_a_reward(thinker: Steersman) -> None:
    control = align([{"name": "likelihood", "weight": 4.0, "see": "all"}], steps=3)
    search = search_of(thinker.chat.completions.create(**ASKED, control=control).control)
    assert search.target_chosen < 0
    assert search.steps == 3


@pytest.mark.scale
def test_a_stream_tells_of_steps(thinker: Steersman) -> None:
    control = align("brief", steps=6, chains=2, events=("steps",), return_chain=True)
    chunks = [*thinker.chat.completions.create(**ASKED, stream=True, control=control)]
    told = [step for chunk in chunks for step in chunk.steps]
    search = search_of(chunks[-1].control)
    chain = [step.model_dump(exclude={"text"}) for step in search.chain]
    told.sort(key=lambda step: (step.chain, step.step))
    assert [step.model_dump() for step in told] == chain
    assert len(told) == 12
    assert any(chunk.choices[0].delta.content for chunk in chunks if chunk.choices)


def test_so_do_the_comments_of_a_response(reasoner: Server) -> None:
    body = {
        "model": "reasoner",
        "input": "8*7-4+11=?",
        "stream": True,
        "max_output_tokens": 300,
        "temperature": 1,
        "control": align("brief", steps=4, events=("steps",)).model_dump(exclude_unset=True),
    }
    with reasoner.client() as http:
        lines = http.post("/v1/responses", json=body).text.splitlines()
    told = [json.loads(line[12:]) for line in lines if line.startswith(": steersman ")]
    assert sum(len(one["steps"]) for one in told) == 4


@pytest.mark.parametrize("name", FAULTS)
def test_a_reward_that_fails_is_an_error_that_names_it(
    thinker: Steersman, reasoner: Server, name: str
) -> None:
    status, reason = FAULTS[name]
    before = reasoner.metric("steersman_requests_total", method="align", outcome="error")
    with pytest.raises(openai.APIStatusError) as caught:
        thinker.chat.completions.create(**ASKED, control=align(name, chains=2))
    assert caught.value.status_code == status
    assert f"reward '{name}'" in caught.value.message
    assert reason in caught.value.message
    assert reasoner.wait_for_metric(
        "steersman_requests_total", before + 1, SOON, method="align", outcome="error"
    )
    assert reasoner.wait_for_metric("vllm:num_requests_running", 0, SOON)


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("/v1/chat/completions", {"messages": QUESTION}),
        ("/v1/completions", {"prompt": "8*7-4+11="}),
        ("/v1/responses", {"input": "8*7-4+11=?"}),
    ],
)
def test_in_a_stream_it_is_an_error_event(reasoner: Server, path: str, prompt: Any) -> None:
    body = {
        "model": "reasoner",
        "temperature": 1,
        "stream": True,
        **prompt,
        "control": align("broken").model_dump(exclude_unset=True),
    }
    with reasoner.client() as http:
        response = http.post(path, json=body)
    assert response.status_code == 200
    errors = [line for line in response.text.splitlines() if "the disk is full" in line]
    assert len(errors) == 1
    told = json.loads(errors[0].removeprefix("data: "))
    assert told.get("code", told.get("error", {}).get("code")) in (502, "502")
    assert reasoner.wait_for_metric("vllm:num_requests_running", 0, SOON)


def test_or_the_best_so_far_is_returned_and_marked(thinker: Steersman) -> None:
    reward = {"name": "failing_later", "data": {"name": uuid.uuid4().hex}}
    control = align(reward, steps=50, on_reward_error="best_so_far")
    answer = thinker.chat.completions.create(**ASKED, control=control)
    search = search_of(answer.control)
    assert answer.choices[0].message.content
    assert len(search.reward_errors) == 1
    assert "the disk is full" in search.reward_errors[0]
    assert 0 < search.steps < 50


@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_does_not_wait_for_a_reward(
    thinker: Steersman, reasoner: Server, stream: bool
) -> None:
    control = align("hung", limits=Limits(max_seconds=1.5))
    if stream:
        *_, last = thinker.chat.completions.create(**ASKED, stream=True, control=control)
        receipt = last.control
    else:
        receipt = thinker.chat.completions.create(**ASKED, control=control).control
    assert receipt is not None
    assert receipt.applied.stopped_by == "max_seconds"
    assert search_of(receipt).decided_by == "fallback"
    assert reasoner.wait_for_metric("vllm:num_requests_running", 0, SOON)


def test_a_client_that_hangs_up_while_a_reward_judges_leaves_nothing(reasoner: Server) -> None:
    before = reasoner.metric("steersman_requests_total", method="align", outcome="disconnected")
    body = {**ASKED, "control": align("hung", chains=3).model_dump(exclude_unset=True)}
    with reasoner.client() as http, pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=body, timeout=impatient(2))
    assert reasoner.wait_for_metric(
        "steersman_requests_total", before + 1, SOON, method="align", outcome="disconnected"
    )
    assert reasoner.wait_for_metric("vllm:num_requests_running", 0, SOON)


def test_what_rewards_cost_is_on_metrics(thinker: Steersman, reasoner: Server) -> None:
    calls = reasoner.metric("steersman_reward_calls_total", method="align")
    tokens = reasoner.metric("steersman_reward_tokens_total", method="align")
    compute = thinker.chat.completions.create(**ASKED, control=align("brief", steps=3)).control
    assert compute is not None
    wanted = calls + compute.compute.reward_calls
    assert reasoner.wait_for_metric("steersman_reward_calls_total", wanted, SOON, method="align")
    wanted = tokens + compute.compute.reward_tokens
    assert reasoner.metric("steersman_reward_tokens_total", method="align") == wanted


@pytest.mark.parametrize(
    ("reward", "param"),
    [
        ("unheard", "control.search.target.reward[0].name"),
        ("verify", "control.search.target.reward[0].data"),
        ({"name": "verify", "data": {"regex": "("}}, "control.search.target.reward[0].data.regex"),
        (
            {"name": "verify", "data": {"reference": "63", "code": "1"}},
            "control.search.target.reward[0].data.code",
        ),
    ],
)
def test_a_reward_that_cannot_be_is_a_400_with_its_field(
    thinker: Steersman, reward: Any, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        thinker.chat.completions.create(**ASKED, control=align(reward))
    assert caught.value.param == param


def test_all_of_several_rewards_count(thinker: Steersman) -> None:
    terms = (RewardTerm(name="brief", weight=2.0), RewardTerm.model_validate(VERIFY))
    control = align([term.model_dump() for term in terms], steps=2)
    answer = thinker.chat.completions.create(**ASKED, control=control)
    assert answer.control is not None
    assert answer.control.compute.reward_calls % 2 == 0
