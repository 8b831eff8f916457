"""First Finish Search on the real engine: who wins, what it costs, what is left running."""

import json
import time
from typing import Any

import httpx
import pytest

from steersman_client import ControlSpec, Leader, Receipt, Steersman
from tests.http.conftest import race
from tests.http.server import Server
from tests.http.waiting import SOON, impatient

MODEL = "smollm2"
STORY: list[Any] = [{"role": "user", "content": "Tell me a short story about a fox."}]
HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
SAMPLED: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
"""At the model's own settings branches would hardly differ."""
RUNNING = "vllm:num_requests_running"
GENERATED = "vllm:generation_tokens_total"


def receipt_of(result: Any) -> Receipt:
    assert result.control is not None
    receipt: Receipt = result.control
    return receipt


def test_losers_are_stopped_and_counted_exactly(client: Steersman, server: Server) -> None:
    assert server.wait_for_metric(RUNNING, 0, SOON)
    before = server.metric(GENERATED)
    answer = client.chat.completions.create(
        model=MODEL, **SAMPLED, messages=HELLO, seed=5, max_tokens=300, control=race(8)
    )
    assert server.wait_for_metric(RUNNING, 0, SOON)
    receipt = receipt_of(answer)
    search, compute = receipt.applied.search, receipt.compute
    assert search is not None
    assert answer.usage is not None
    assert (search.launched, search.decided_by) == (8, "first")
    assert search.cancelled > 0
    assert search.finished + search.cancelled == 8
    assert compute.returned_tokens == answer.usage.completion_tokens
    assert compute.cancelled_tokens > 0
    by_engine = server.metric(GENERATED) - before
    assert abs(by_engine - compute.sampled_tokens) <= 8


def test_the_winner_is_the_first_of_the_same_samples(client: Steersman) -> None:
    """Sibling i is the choice i of vLLM's own `n`; a first finisher is a shortest of them."""
    samples = client.chat.completions.create(
        model=MODEL, **SAMPLED, messages=HELLO, seed=11, max_tokens=200, n=4, logprobs=True
    )
    winner = client.chat.completions.create(
        model=MODEL, **SAMPLED, messages=HELLO, seed=11, max_tokens=200, control=race(4)
    )
    lengths = [
        len((choice.logprobs and choice.logprobs.content) or ()) for choice in samples.choices
    ]
    assert winner.usage is not None
    assert winner.usage.completion_tokens == min(lengths)
    contents = {choice.message.content for choice in samples.choices}
    assert len(contents) > 1
    assert winner.choices[0].message.content in contents


def test_a_seeded_request_repeats(client: Steersman) -> None:
    answers = [
        client.chat.completions.create(
            model=MODEL, **SAMPLED, messages=HELLO, seed=3, max_tokens=100, control=race(4)
        )
        for _ in range(2)
    ]
    first, second = (answer.choices[0].message.content for answer in answers)
    assert first == second
    assert receipt_of(answers[0]).applied.search == receipt_of(answers[1]).applied.search


def test_choices_are_the_first_finishers(client: Steersman) -> None:
    answer = client.chat.completions.create(
        model=MODEL, **SAMPLED, messages=HELLO, seed=7, max_tokens=200, n=2, control=race(5)
    )
    search = receipt_of(answer).applied.search
    assert search is not None
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert len(set(search.winners)) == 2
    assert search.decided_by == "first"
    stream = client.chat.completions.create(
        model=MODEL,
        **SAMPLED,
        messages=HELLO,
        seed=7,
        max_tokens=200,
        n=2,
        stream=True,
        control=race(5),
    )
    texts = ["", ""]
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]


def test_a_vote_over_the_first_k(client: Steersman) -> None:
    answer = client.chat.completions.create(
        model=MODEL, **SAMPLED, messages=HELLO, seed=2, max_tokens=200, control=race(6, k=3)
    )
    search = receipt_of(answer).applied.search
    assert search is not None
    assert search.decided_by == "vote"
    assert search.finished >= 3
    assert search.votes is not None
    assert sum(votes for _, votes in search.votes) == 3


def test_lines_at_the_token_limit_are_the_fallback(client: Steersman) -> None:
    answer = client.chat.completions.create(
        model=MODEL, **SAMPLED, messages=STORY, max_tokens=4, control=race(2)
    )
    search = receipt_of(answer).applied.search
    assert search is not None
    assert answer.choices[0].finish_reason == "length"
    assert search.decided_by == "fallback"
    assert search.cancelled == 0
    assert search.branch_max_tokens == receipt_of(answer).applied.max_tokens == 4


def test_a_plain_request_says_what_it_ran_under(client: Steersman) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="The capital of", n=3, seed=5, max_tokens=4, control=ControlSpec()
    )
    receipt, usage = receipt_of(answer), answer.usage
    assert usage is not None
    assert (receipt.applied.max_tokens, receipt.applied.seeds) == (4, (5, 6, 7))
    # No whole block of so short a prompt is shared.
    assert receipt.compute.prefill_tokens == 3 * usage.prompt_tokens


def test_several_prompts_have_one_receipt(client: Steersman) -> None:
    answer = client.completions.create(
        model=MODEL,
        **SAMPLED,
        prompt=["The capital of France is", "Two plus two is"],
        max_tokens=12,
        control=race(3),
    )
    search = receipt_of(answer).applied.search
    assert search is not None
    assert answer.usage is not None
    assert len(answer.choices) == len(search.winners) == 2
    assert search.launched == 6
    assert receipt_of(answer).compute.returned_tokens == answer.usage.completion_tokens


def test_branches_share_the_prompt(client: Steersman) -> None:
    words = " ".join(f"word{i}" for i in range(200))
    answer = client.completions.create(
        model=MODEL, **SAMPLED, prompt=f"{time.time()} {words}", max_tokens=4, control=race(8)
    )
    assert answer.usage is not None
    prompt = answer.usage.prompt_tokens
    assert prompt > 320
    # Each branch computes at most the block that is not full, and one does the rest.
    assert receipt_of(answer).compute.prefill_tokens < prompt + 8 * 33


def test_the_leader_is_shown_to_a_client_that_asks(client: Steersman) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        **SAMPLED,
        messages=STORY,
        seed=1,
        max_tokens=60,
        stream=True,
        control=race(3, stream_leader=True),
    )
    leaders: list[Leader] = []
    contents: list[str] = []
    heads: set[tuple[str, int, str]] = set()
    for chunk in stream:
        heads.add((chunk.id, chunk.created, chunk.model))
        if chunk.leader is not None:
            leaders.append(chunk.leader)
            assert chunk.choices[0].delta.content is None
        elif chunk.choices:
            contents.append(chunk.choices[0].delta.content or "")
    assert len(leaders) > 1
    assert len(heads) == 1
    shown = "".join(leader.text for leader in leaders if leader.branch == leaders[0].branch)
    assert shown.strip()
    assert "".join(contents)


def test_a_waiting_stream_is_kept_alive(server: Server) -> None:
    body = {
        "model": MODEL,
        **SAMPLED,
        "messages": STORY,
        "max_tokens": 150,
        "stream": True,
        "control": race(8).model_dump(exclude_unset=True),
    }
    with server.client() as http, http.stream("POST", "/v1/chat/completions", json=body) as stream:
        comments = [line for line in stream.iter_lines() if line.startswith(": steersman ")]
    progress = [json.loads(comment.removeprefix(": steersman ")) for comment in comments]
    assert progress
    assert progress[0]["running"] == 8
    tokens = [step["tokens"] for step in progress]
    assert tokens == sorted(tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_stops_all_branches(server: Server, stream: bool) -> None:
    disconnected = server.metric("steersman_requests_total", outcome="disconnected")
    body = {
        "model": MODEL,
        **SAMPLED,
        "messages": STORY,
        "max_tokens": 4000,
        "ignore_eos": True,
        "stream": stream,
        "control": race(4).model_dump(exclude_unset=True),
    }
    with (
        server.client() as http,
        pytest.raises(httpx.ReadTimeout),
        http.stream("POST", "/v1/chat/completions", json=body, timeout=impatient(0.9)) as response,
    ):
        response.read()
    assert server.wait_for_metric(
        "steersman_requests_total", disconnected + 1, SOON, outcome="disconnected"
    )
    assert server.wait_for_metric(RUNNING, 0, SOON)


def test_one_client_can_use_one_request_id_twice(server: Server) -> None:
    """The losers of one request must not take along another one of the same id."""
    headers = {"X-Request-Id": "same"}
    long = {
        "model": MODEL,
        **SAMPLED,
        "messages": STORY,
        "max_tokens": 60,
        "ignore_eos": True,
        "control": {},
        "stream": True,
    }
    short = {
        "model": MODEL,
        **SAMPLED,
        "messages": HELLO,
        "control": race(4).model_dump(exclude_unset=True),
    }
    with (
        server.client() as http,
        http.stream("POST", "/v1/chat/completions", json=long, headers=headers) as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        with server.client() as other:
            answer = other.post("/v1/chat/completions", json=short, headers=headers).json()
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert answer["control"]["applied"]["search"]["cancelled"] > 0
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["control"]["compute"]["returned_tokens"] == 60
