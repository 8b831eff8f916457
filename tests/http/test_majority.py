"""Majority voting on the real engine: the vote over the very choices that vLLM's own `n` gives."""

from collections import Counter
from typing import Any

import pytest

from steersman.trajectory.answers import canonical
from steersman_client import ControlSpec, Majority, Steersman
from tests.http.server import Server

QUESTION: list[Any] = [{"role": "user", "content": "8*7-4+11=?"}]
SAMPLED: dict[str, Any] = {"model": "reasoner", "messages": QUESTION, "temperature": 1.2}


def majority(n: int, **fields: Any) -> ControlSpec:
    return ControlSpec(search=Majority(method="majority", n=n, **fields))


@pytest.mark.scale
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
def test_the_vote_is_over_the_samples_of_the_same_seed(
    thinker: Steersman, seed: int, stream: bool
) -> None:
    samples = thinker.chat.completions.create(
        **SAMPLED, seed=seed, n=8, control={"monitor": {"tokens": True}}
    )
    assert samples.control is not None
    lengths = [len(one.tokens or ()) for one in samples.control.entropy_by_choice or ()]
    answers = [canonical(choice.message.content or "") for choice in samples.choices]
    voted = Counter(
        a for a, c in zip(answers, samples.choices, strict=True) if c.finish_reason == "stop"
    )
    most = max(voted.values())
    able = {branch for branch, answer in enumerate(answers) if voted[answer] == most}

    if stream:
        chunks = [
            *thinker.chat.completions.create(**SAMPLED, seed=seed, stream=True, control=majority(8))
        ]
        receipt = chunks[-1].control
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    else:
        answer = thinker.chat.completions.create(**SAMPLED, seed=seed, control=majority(8))
        receipt, text = answer.control, answer.choices[0].message.content or ""

    assert receipt is not None
    search, compute = receipt.applied.search, receipt.compute
    assert search is not None
    assert search.decided_by == "vote"
    assert dict(search.votes or ()) == dict(voted)
    assert search.winner in able
    same = [lengths[branch] for branch, a in enumerate(answers) if a == answers[search.winner]]
    assert compute.returned_tokens == min(same)
    assert text == samples.choices[search.winner].message.content
    assert (search.launched, search.finished, search.cancelled) == (8, 8, 0)
    assert compute.sampled_tokens == sum(lengths)
    assert compute.lost_tokens == sum(lengths) - min(same)
    assert compute.sequential_tokens == max(lengths)


def test_several_choices_are_of_different_answers(thinker: Steersman) -> None:
    answer = thinker.chat.completions.create(**SAMPLED, seed=5, n=2, control=majority(8))
    assert answer.control is not None
    assert answer.control.applied.search is not None
    votes = answer.control.applied.search.votes or ()
    given = [canonical(choice.message.content or "") for choice in answer.choices]
    assert given == [text for text, _ in votes[:2]]


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"temperature": 0}, "temperature"),
        ({"n": 3, "control": {"search": {"method": "majority", "n": 2}}}, "n"),
        ({"control": {"search": {"method": "majority", "n": 17}}}, "control.search.n"),
        ({"control": {"search": {"method": "majority", "k": 2}}}, "control.search.k"),
    ],
)
def test_a_vote_that_cannot_be_held_is_refused(
    reasoner: Server, changed: dict[str, Any], param: str
) -> None:
    body = {**SAMPLED, "control": {"search": {"method": "majority", "n": 4}}, **changed}
    with reasoner.client() as http:
        answer = http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
