"""The thinking phase under limits, and what the monitor saw, as users have it: over HTTP."""

import math
import re
from typing import Any

import openai
import pytest

from steersman_client import (
    Balance,
    Certainty,
    ControlSpec,
    EntropyExit,
    FirstFinish,
    Monitor,
    Steer,
    Steersman,
    Thinking,
    receipt_of,
)
from tests.http.server import API_KEY, RESPONSES, Server

MODEL = "reasoner"
ASK: list[Any] = [{"role": "user", "content": "6+9*3-8=?"}]
FIXED: dict[str, Any] = {"model": MODEL, "messages": ASK, "max_tokens": 300, "temperature": 0}
SAMPLED: dict[str, Any] = {**FIXED, "temperature": 1.0}


def reasoning_of(message: Any) -> str:
    return str((message.model_extra or {}).get("reasoning") or "")


def thinking(**fields: Any) -> ControlSpec:
    return ControlSpec(thinking=Thinking(**fields), monitor=Monitor())


@pytest.mark.scale
@pytest.mark.parametrize("budget", [0, 1, 12])
def test_a_budget_is_kept_and_an_answer_follows(thinker: Steersman, budget: int) -> None:
    free = thinker.chat.completions.create(**FIXED, control=thinking())
    answer = thinker.chat.completions.create(**FIXED, control=thinking(budget=budget))

    assert free.control is not None
    assert free.control.applied.thinking is not None
    assert free.control.applied.thinking.closed_by == "model"
    assert free.control.applied.thinking.tokens > 12
    assert answer.control is not None
    applied = answer.control.applied.thinking
    assert applied is not None
    assert (applied.tokens, applied.closed_by) == (budget, "budget")
    assert (applied.closed_at, applied.forced_tokens) == (budget + 1, 1)
    message = answer.choices[0].message
    assert "think>" not in reasoning_of(message) + (message.content or "")
    assert r"\boxed{" in (message.content or "")
    assert reasoning_of(free.choices[0].message).startswith(reasoning_of(message).rstrip())
    stream = thinker.chat.completions.create(**FIXED, stream=True, control=thinking(budget=budget))
    deltas = [chunk.choices[0].delta for chunk in stream if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == message.content
    assert "".join(map(reasoning_of, deltas)) == reasoning_of(message)


def test_a_grace_waits_for_the_end_of_a_line(thinker: Steersman) -> None:
    answer = thinker.chat.completions.create(**FIXED, control=thinking(budget=4, grace=40))
    assert answer.control is not None
    applied = answer.control.applied.thinking
    assert applied is not None
    assert applied.closed_by == "budget"
    assert 4 <= applied.tokens < 44
    assert reasoning_of(answer.choices[0].message).endswith("\n")


def test_an_exit_and_a_minimum(thinker: Steersman) -> None:
    sure = Thinking(exit=EntropyExit(entropy_below=3.0, window=6))
    longer = Thinking(min=120, nudge="\n")
    receipts = []
    for part in (sure, longer):
        answer = thinker.chat.completions.create(**FIXED, control=ControlSpec(thinking=part))
        assert answer.control is not None
        assert answer.control.entropy is None
        receipts.append(answer.control.applied.thinking)
    assert receipts[0] is not None
    assert (receipts[0].closed_by, receipts[0].forced_tokens) == ("entropy", 1)
    assert receipts[1] is not None
    assert receipts[1].tokens >= 120
    assert receipts[1].forced_tokens >= 1


def test_thinking_closes_once_the_answer_is_settled(thinker: Steersman) -> None:
    """Empty lines keep it from closing for a while; its answer is known by then."""
    # Long enough for a busy front end to ask in time, and too short for so many answers.
    on = Thinking(min=400, nudge="\n", certainty=Certainty(every=8, agree=2))
    never = Thinking(min=240, nudge="\n", certainty=Certainty(every=32, agree=16))
    closed = []
    for stream in (False, True):
        for part in (on, never):
            control = ControlSpec(thinking=part)
            request = {**FIXED, "max_tokens": 450, "stream": stream, "control": control}
            answer = thinker.chat.completions.create(**request)
            receipt = [*answer][-1].control if stream else answer.control
            assert receipt is not None
            assert receipt.applied.thinking is not None
            assert receipt.applied.thinking.probes
            assert receipt.compute.sampled_tokens > receipt.compute.returned_tokens
            closed.append(receipt.applied.thinking.closed_by)
    assert closed == ["certainty", "model"] * 2

    long = {**SAMPLED, "max_tokens": 450}
    several = thinker.chat.completions.create(
        **long, n=3, control=ControlSpec(thinking=on, monitor=Monitor())
    )
    assert several.control is not None
    by_choice = several.control.applied.thinking_by_choice
    assert by_choice is not None
    assert sum(choice.probes or 0 for choice in by_choice) > 0
    race = FirstFinish(method="first_finish", n=3)
    winner = thinker.chat.completions.create(**long, control=ControlSpec(thinking=on, search=race))
    assert winner.choices[0].message.content


@pytest.mark.scale
def test_each_choice_and_each_branch_is_governed(thinker: Steersman) -> None:
    choices = thinker.chat.completions.create(**SAMPLED, n=3, control=thinking(budget=8))
    assert choices.control is not None
    by_choice = choices.control.applied.thinking_by_choice
    assert by_choice is not None
    assert choices.control.entropy_by_choice is not None
    assert [one.tokens for one in by_choice] == [min(one.tokens, 8) for one in by_choice]
    assert len(by_choice) == len(choices.control.entropy_by_choice) == 3

    spec = ControlSpec(
        thinking=Thinking(budget=8),
        monitor=Monitor(tokens=True),
        search=FirstFinish(method="first_finish", n=4),
    )
    for stream in (False, True):
        if stream:
            chunks = list(thinker.chat.completions.create(**SAMPLED, stream=True, control=spec))
            receipt = chunks[-1].control
            listed = [t for c in chunks if c.live for t in c.live.tokens or ()]
        else:
            winner = thinker.chat.completions.create(**SAMPLED, control=spec)
            receipt = winner.control
        assert receipt is not None
        assert receipt.applied.search is not None
        assert receipt.applied.thinking is not None
        assert receipt.applied.thinking.tokens <= 8
        assert receipt.entropy is not None
        assert receipt.entropy.tokens is not None
        assert len(receipt.entropy.tokens) == receipt.compute.returned_tokens
    assert tuple(listed) == receipt.entropy.tokens


def test_the_monitor_sees_what_vllm_sees(thinker: Steersman) -> None:
    """Beside the user's own log-probabilities, which stay what they are."""
    spec = ControlSpec(monitor=Monitor(tokens=True))
    plain = thinker.chat.completions.create(**FIXED, logprobs=True, top_logprobs=3)
    answer = thinker.chat.completions.create(**FIXED, logprobs=True, top_logprobs=3, control=spec)

    assert plain.choices[0].logprobs == answer.choices[0].logprobs
    assert plain.choices[0].message == answer.choices[0].message
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert answer.control is not None
    entropy = answer.control.entropy
    assert entropy is not None
    assert entropy.tokens is not None
    assert entropy.thinking is not None
    assert entropy.answer is not None
    said = [logprob for _, logprob, _ in entropy.tokens]
    assert said == pytest.approx([entry.logprob for entry in logprobs.content], abs=1e-3)
    words = [entry.token for entry in logprobs.content]
    end = words.index("</think>")
    values = [value for _, _, value in entropy.tokens]
    assert entropy.thinking.tokens == end - 1
    assert entropy.thinking.mean == pytest.approx(sum(values[1:end]) / (end - 1), abs=1e-4)
    assert entropy.answer.tokens == len(words) - end - 1
    wanted = max(0.0, entropy.thinking.mean - entropy.answer.mean)
    assert entropy.pear == pytest.approx(wanted, abs=1e-5)
    # The three most likely tokens bound the entropy from below.
    for entry, value in zip(logprobs.content, values, strict=True):
        top = [math.exp(one.logprob) for one in entry.top_logprobs]
        assert value >= -sum(p * math.log(p) for p in top if p > 0) - 1e-3


@pytest.mark.scale
@pytest.mark.parametrize("endpoint", ["chat", "completions", RESPONSES])
def test_streams_carry_the_values_of_their_tokens(thinker: Steersman, endpoint: str) -> None:
    control = {"monitor": {"tokens": True}}
    options: dict[str, Any] = {"model": MODEL, "stream": True, "extra_body": {"control": control}}
    prompt = "<|im_start|>user\n6+9*3-8=?<|im_end|>\n<|im_start|>assistant\n"
    lives: list[Any] = []
    receipt = None
    if endpoint == "responses":
        for event in thinker.responses.create(input="6+9*3-8=?", **options):
            lives.append((event.model_extra or {}).get("control", {}).get("live"))
            if event.type in ("response.completed", "response.incomplete"):
                receipt = receipt_of(event.response)
    elif endpoint == "chat":
        for chunk in thinker.chat.completions.create(messages=ASK, **options):
            lives.append(chunk.live and chunk.live.model_dump())
            receipt = receipt or chunk.control
    else:
        for piece in thinker.completions.create(prompt=prompt, max_tokens=300, **options):
            lives.append(piece.live and piece.live.model_dump())
            receipt = receipt or piece.control
    found = [live for live in lives if live]
    assert receipt is not None
    assert receipt.entropy is not None
    assert receipt.entropy.thinking is not None
    assert {live["phase"] for live in found} == {"thinking", "answer"}
    tokens = [tuple(token) for live in found for token in live["tokens"]]
    assert receipt.entropy.tokens is not None
    whole = [*receipt.entropy.tokens]
    # The event of a Responses stream that brings the token which ends it brings others too, or
    # there is none.
    unsaid = len(whole) - len(tokens)
    assert unsaid in ({0, 1} if endpoint == "responses" else {0})
    assert tokens == whole[: len(tokens)]
    last = [live["entropy"] for live in found if live["phase"] == "thinking"][-1]
    if endpoint != "responses":
        assert last == pytest.approx(receipt.entropy.thinking.mean, rel=0.2)


def test_a_balanced_vector_is_in_the_receipt(thinker: Steersman) -> None:
    balance = Balance(vector="concise", target_entropy=0.2, gain=1.0)
    spec = ControlSpec(thinking=Thinking(balance=balance, budget=200), monitor=Monitor())
    answer = thinker.chat.completions.create(**FIXED, control=spec)
    assert answer.control is not None
    applied = answer.control.applied.thinking
    assert applied is not None
    assert applied.balance is not None
    assert applied.balance.vector == "concise"
    assert applied.balance.tokens == reasoning_of(answer.choices[0].message).count("\n")
    assert len({strength for _, strength in applied.balance.track}) > 1
    assert all(0 <= strength <= 1 for _, strength in applied.balance.track)
    law = ControlSpec(thinking=Thinking(balance=Balance(vector="concise", law="confidence")))
    again = thinker.chat.completions.create(**FIXED, control=law)
    assert again.control is not None
    assert again.control.applied.thinking is not None
    assert again.control.applied.thinking.balance is not None


def test_an_answer_in_a_given_form_follows_a_closed_phase(thinker: Steersman) -> None:
    answer = thinker.chat.completions.create(
        **FIXED,
        control=thinking(budget=10),
        extra_body={"structured_outputs": {"regex": r"\d{1,3}"}},
    )
    assert re.fullmatch(r"\d{1,3}", (answer.choices[0].message.content or "").strip())
    assert answer.control is not None
    assert answer.control.applied.thinking is not None
    assert answer.control.applied.thinking.tokens <= 10


def test_an_earlier_turns_thinking_does_not_count(thinker: Steersman) -> None:
    history: list[Any] = [
        *ASK,
        {"role": "assistant", "content": "<think>\n27\n</think>\n\nThe answer is 25."},
        {"role": "user", "content": "5*7-4+1=?"},
    ]
    answer = thinker.chat.completions.create(
        **{**FIXED, "messages": history}, control=thinking(budget=6)
    )
    assert answer.control is not None
    assert answer.control.applied.thinking is not None
    assert answer.control.applied.thinking.tokens <= 6
    assert answer.choices[0].message.content


def test_the_official_sdk_and_the_metrics(reasoner: Server) -> None:
    names = (
        ("steersman_thinking_closed_total", {"closed_by": "budget"}),
        ("steersman_token_entropy_nats_count", {"phase": "thinking"}),
    )
    before = [reasoner.metric(name, **labels) for name, labels in names]
    with openai.OpenAI(base_url=f"{reasoner.url}/v1", api_key=API_KEY, max_retries=0) as sdk:
        answer = sdk.chat.completions.create(
            **FIXED, extra_body={"control": {"thinking": {"budget": 5}, "monitor": {}}}
        )
    receipt = (answer.model_extra or {})["control"]
    assert receipt["applied"]["thinking"]["tokens"] == 5
    after = [reasoner.metric(name, **labels) for name, labels in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 5]


@pytest.mark.parametrize(
    ("control", "param"),
    [
        ({"thinking": {"budget": -1}}, "control.thinking.budget"),
        ({"thinking": {"budget": 10**6}}, "control.thinking.budget"),
        ({"thinking": {"budget": 5, "min": 6}}, "control.thinking.min"),
        ({"thinking": {"grace": 5}}, "control.thinking.grace"),
        ({"thinking": {"exit": {"entropy_below": 0}}}, "control.thinking.exit.entropy_below"),
        (
            {"thinking": {"exit": {"entropy_below": 1, "window": 999}}},
            "control.thinking.exit.window",
        ),
        ({"thinking": {"on_loop": "stop"}}, "control.thinking.on_loop"),
        (
            {"thinking": {"balance": {"vector": "none", "target_entropy": 1}}},
            "control.thinking.balance.vector",
        ),
        (
            {"thinking": {"balance": {"vector": "concise"}}},
            "control.thinking.balance.target_entropy",
        ),
        ({"thinking": {"certainty": {"agree": 1}}}, "control.thinking.certainty.agree"),
        ({"monitor": {"token": True}}, "control.monitor.token"),
    ],
)
def test_what_is_refused(thinker: Steersman, control: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        thinker.chat.completions.create(**FIXED, stream=True, extra_body={"control": control})
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"allowed_token_ids": [339]}, "allowed_token_ids"),
        (
            {"include_reasoning": False, "structured_outputs": {"choice": ["yes", "no"]}},
            "include_reasoning",
        ),
    ],
)
def test_fields_that_leave_no_room_for_a_limit(
    thinker: Steersman, fields: dict[str, Any], param: str
) -> None:
    limit = {"control": {"thinking": {"budget": 4}}}
    with pytest.raises(openai.BadRequestError) as caught:
        thinker.chat.completions.create(**FIXED, extra_body={**fields, **limit})
    assert caught.value.param == param
    assert thinker.chat.completions.create(**FIXED, extra_body=fields).choices


def test_a_balance_stands_alone_in_its_phase(thinker: Steersman) -> None:
    balance = Balance(vector="concise", target_entropy=0.2)
    both = ControlSpec(thinking=Thinking(balance=balance), steer=(Steer(vector="onward"),))
    with pytest.raises(openai.BadRequestError) as caught:
        thinker.chat.completions.create(**FIXED, control=both)
    assert caught.value.param == "control.steer[0].phase"
    apart = ControlSpec(
        thinking=Thinking(balance=balance), steer=(Steer(vector="onward", phase="answer"),)
    )
    answer = thinker.chat.completions.create(**FIXED, control=apart)
    assert answer.control is not None
    assert answer.control.applied.steer[0].phase == "answer"


def test_a_model_without_a_thinking_phase(client: Steersman) -> None:
    hello: Any = [{"role": "user", "content": "Say hello."}]
    with pytest.raises(
        openai.BadRequestError, match="needs a model with a thinking phase"
    ) as caught:
        client.chat.completions.create(
            model="smollm2", messages=hello, control=ControlSpec(thinking=Thinking(budget=4))
        )
    assert caught.value.param == "control.thinking.budget"
    answer = client.chat.completions.create(
        model="smollm2",
        messages=hello,
        max_tokens=12,
        control=ControlSpec(monitor=Monitor()),
        extra_body={"ignore_eos": True},
    )
    assert answer.control is not None
    assert answer.control.entropy is not None
    assert answer.control.entropy.thinking is None
    assert answer.control.entropy.answer is not None
    assert answer.control.entropy.answer.tokens == 12
