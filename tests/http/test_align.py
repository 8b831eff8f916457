"""Power sampling on the real engine: chains that repeat, and whose books add up."""

from typing import Any

import openai
import pytest
from transformers import AutoTokenizer

from steersman_client import Align, ControlSpec, Limits, Receipt, Steersman, Target
from tests.http.test_phases import REASONER

QUESTION: list[Any] = [{"role": "user", "content": "8*7-4+11=?"}]
ASKED: dict[str, Any] = {"model": "reasoner", "messages": QUESTION, "seed": 7}


def align(power: float = 4.0, **fields: Any) -> ControlSpec:
    return ControlSpec(search=Align(method="align", target=Target(power=power), **fields))


def chain(receipt: Receipt | None) -> Any:
    assert receipt is not None
    assert receipt.applied.search is not None
    return receipt.applied.search


@pytest.mark.scale
def test_a_seeded_chain_repeats_however_far_it_looks_ahead(thinker: Steersman) -> None:
    texts, chains = set(), []
    for ahead in (1, 1, 4, None):
        control = align(steps=8, look_ahead=ahead, return_chain=True)
        answer = thinker.chat.completions.create(**ASKED, control=control)
        texts.add(answer.choices[0].message.content)
        found = chain(answer.control)
        chains.append((found.chain, found.acceptance, found.effective_samples))
    assert len(texts) == 1
    assert chains == chains[:1] * 4


@pytest.mark.scale
def test_the_books_add_up_and_a_stream_has_the_same_answer(thinker: Steersman) -> None:
    control = align(steps=6, chains=2, look_ahead=3)
    whole = thinker.chat.completions.create(**ASKED, control=control)
    chunks = [*thinker.chat.completions.create(**ASKED, stream=True, control=control)]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert whole.control is not None
    assert whole.usage is not None
    compute, found = whole.control.compute, chain(whole.control)
    assert compute.returned_tokens == whole.usage.completion_tokens
    parts = compute.returned_tokens, compute.cancelled_tokens, compute.lost_tokens
    assert sum(parts) == compute.sampled_tokens
    assert min(parts) >= 0
    assert (found.steps, len(found.acceptance_by_chain)) == (12, 2)
    assert found.resampled_tokens < compute.sampled_tokens
    timed = {"finished", "cancelled"}  # how far those had come that are thrown away
    assert chain(chunks[-1].control).model_dump(exclude=timed) == found.model_dump(exclude=timed)


def test_a_sharper_target_is_likelier_than_a_plain_sample(thinker: Steersman) -> None:
    gains = []
    for seed in range(6):
        asked = {**ASKED, "seed": seed}
        found = chain(
            thinker.chat.completions.create(**asked, control=align(steps=12, select="best")).control
        )
        assert found.target_chosen >= found.target_start
        gains.append(found.target_chosen - found.target_start)
    assert max(gains) > 0


def test_at_a_limit_the_best_so_far_is_returned(thinker: Steersman) -> None:
    control = ControlSpec(search=align(steps=4000).search, limits=Limits(max_sampled_tokens=400))
    answer = thinker.chat.completions.create(**ASKED, control=control)
    assert answer.control is not None
    assert answer.control.applied.stopped_by == "max_sampled_tokens"
    assert answer.choices[0].message.content
    assert 0 < chain(answer.control).steps < 4000


def test_states_end_where_the_request_says(thinker: Steersman) -> None:
    """At one of its tokens, or at no end but `max_tokens`."""
    (newline,) = AutoTokenizer.from_pretrained(REASONER).encode("\n")

    def walked(ahead: int, **fields: Any) -> Any:
        control = align(steps=8, look_ahead=ahead, return_chain=True)
        asked = {**ASKED, "max_tokens": 200, "extra_body": fields}
        answer = thinker.chat.completions.create(**asked, control=control)
        return answer.choices[0], chain(answer.control).chain

    choice, states = walked(1, stop_token_ids=[newline])
    assert choice.model_extra["stop_reason"] == newline
    assert all("\n" not in state.text for state in states)
    assert walked(4, stop_token_ids=[newline])[1] == states
    choice, states = walked(1, ignore_eos=True)
    assert choice.finish_reason == "length"
    assert {state.tokens for state in states} == {200}
    _, plain = walked(1)
    assert any("\n" in state.text for state in plain)
    assert any(state.tokens < 200 for state in plain)


@pytest.mark.scale
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"top_p": 0.9}, "top_p"),
        ({"n": 2}, "n"),
        ({"stop": ["x"]}, "stop"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"extra_body": {"top_k": 5}}, "top_k"),
        ({"extra_body": {"min_p": 0.1}}, "min_p"),
        ({"extra_body": {"min_tokens": 3}}, "min_tokens"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_changes_the_distribution_is_refused(
    thinker: Steersman, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        thinker.chat.completions.create(**ASKED, **fields, control=align())
    assert caught.value.param == param
