"""Chains against votes: selections, costs and sizes, from made-up responses."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from evals.evidence import align, noisy
from evals.evidence.align import POWER, REWARD
from evals.evidence.selection import BETA, Response, Selection, best, majority, weighted

from steersman.evaluate import spec as specs
from steersman.evaluate.answers import Comparer
from steersman.evaluate.placeholders import check, fill
from steersman.evaluate.problems import Problem, load
from steersman.evaluate.records import Record
from steersman_client import ControlSpec
from tests.unit.evaluate.made_up import record

PROBLEM = Problem("arithmetic-1-0a", "arithmetic 1", "1+6=?", "7", lambda text: "{7}" in text)
SEVEN, EIGHT, NINE = (
    Response(answer, answer == "7", reward)
    for answer, reward in (("7", 0.0), ("8", 0.9), ("9", 0.3))
)
NONE = Response("", False, -40.0)


@pytest.mark.parametrize(
    ("select", "responses", "right"),
    [
        (majority, [EIGHT, SEVEN, SEVEN], True),
        (majority, [EIGHT, SEVEN], False),
        (majority, [NONE, NONE, SEVEN], True),
        (majority, [NONE], False),
        (best, [SEVEN, EIGHT, SEVEN], False),
        (best, [NONE, SEVEN], True),
        (weighted, [EIGHT, SEVEN, SEVEN], False),  # e^1.8 against 2
        (weighted, [EIGHT, *[SEVEN] * 7], True),
        (weighted, [NINE, SEVEN, SEVEN], True),
        (weighted, [NONE, replace(SEVEN, reward=-900.0)], True),
    ],
)
def test_selections(select: Selection, responses: Sequence[Response], right: bool) -> None:
    assert select(responses) is right


def sample(number: int, answer: str, tokens: int, problem: Problem = PROBLEM) -> Record:
    return record(
        problem=problem.id,
        sample=number,
        content=f"\\boxed{{{answer}}}",
        reasoning=f"try {number}",
        right=answer == "7",
        completion_tokens=tokens,
    )


def scored(answer: str) -> float:
    """The reward of a state of a made-up chain."""
    if answer == " ":
        return -40.0
    return noisy.judged(PROBLEM.id, PROBLEM.answer, "so", f"\\boxed{{{answer}}}")


def chain(
    name: str, answers: str, first: int, resampled: int, lengths: Sequence[int] = ()
) -> Record:
    """A chain of states with answers of a digit each; a blank for an open thought."""
    listed = [
        {
            "chain": 0,
            "step": step,
            "accepted": True,
            "target": scored(answer),
            "tokens": length,
            "acceptance": 1.0,
            "text": f"<think>so</think>\\boxed{{{answer}}}" if answer != " " else "<think>so",
        }
        for step, (answer, length) in enumerate(
            zip(answers, lengths or [first] * len(answers), strict=True)
        )
    ]
    search = {
        "method": "align",
        "launched": 1,
        "finished": 1,
        "cancelled": 0,
        "resampled_tokens": resampled,
        "chain": listed,
    }
    compute = {"sampled_tokens": first + resampled}
    receipt = {"applied": {"search": search}, "compute": compute}
    return record(control=name, problem=PROBLEM.id, right=True, receipt=receipt)


def test_samples_have_the_reward_that_the_server_would_have_given() -> None:
    records = [sample(1, "8", 30), sample(0, "7", 20), sample(2, "7", 5)]
    responses, tokens = align.sampled(PROBLEM, [*records[:2], replace_content(records[2], "")])
    assert tokens == [20, 50, 55]
    assert [(one.answer, one.right) for one in responses[:2]] == [("7", True), ("8", False)]
    assert responses[0].reward == noisy.judged(PROBLEM.id, "7", "try 0", r"\boxed{7}")
    assert (responses[2].answer, responses[2].reward) == ("", -40.0)


def replace_content(one: Record, content: str) -> Record:
    return one.model_copy(update={"content": content})


def test_the_tokens_of_a_chain_are_spread_over_its_steps_by_the_states_before() -> None:
    one = chain(REWARD, "87 ", first=20, resampled=30, lengths=[30, 10, 99])
    states, tokens = align.walked(PROBLEM, one)
    assert tokens == [30, 45, 50]
    assert [(one.answer, one.right) for one in states] == [("8", False), ("7", True), ("", False)]


def test_rewards_are_compared_with_those_that_the_server_gave() -> None:
    assert align.same_rewards(PROBLEM, chain(REWARD, "87 ", 20, 30)) == [True] * 3
    other = replace(PROBLEM, id="arithmetic-1-0b")
    assert align.same_rewards(other, chain(REWARD, "87 ", 20, 30)) == [False, False, True]


def test_chains_may_spend_no_more_than_the_samples() -> None:
    samples = [sample(number, "7" if number != 2 else "8", 20) for number in range(4)]
    chains = [
        chain(REWARD, "888777", first=20, resampled=60),
        chain(POWER, "7777", first=10, resampled=20),
        record(control="single", problem=PROBLEM.id),
    ]
    cool = [sample(number, "7", 15) for number in range(2)]
    curves = align.compare([PROBLEM], samples, cool, chains)
    sizes = {
        name: [(one.samples, one.steps, one.sampled_tokens.value) for one in points]
        for name, points in curves.methods.items()
    }
    assert sizes["majority"] == sizes["best of n"] == [(1, None, 20), (2, None, 40), (4, None, 80)]
    assert sizes[REWARD] == [(2, 2, 40), (4, 6, 80)]
    assert sizes[align.COOL_MAJORITY] == [(1, None, 15), (2, None, 30)]
    assert sizes[POWER] == [(1, 2, 20), (2, 4, 30), (4, 4, 30)]
    assert [one.accuracy.value for one in curves.methods[REWARD]] == [0, 0]
    pairs = {(one.ours, one.theirs, one.samples): one for one in curves.pairs}
    assert pairs[REWARD, "majority", 4].points.value == -1
    assert (pairs[REWARD, "majority", 4].better, pairs[REWARD, "majority", 4].worse) == (0, 1)
    assert pairs[POWER, "single", 4].points.value == 0
    assert [size for _, theirs, size in pairs if theirs == align.COOL_MAJORITY] == [1, 2]
    # Of three against three, the answer that came first has the majority.
    assert curves.as_served == {REWARD: 0.0, POWER: 1.0}
    assert curves.same_rewards == 1.0


def definition(name: str) -> Any:
    return yaml.safe_load((align.HERE / f"{name}.yaml").read_text())


def test_all_runs_have_the_same_problems_and_chains_as_long_as_they_need() -> None:
    samples, cool, chains = map(definition, (align.SAMPLES, align.COOL, align.CHAINS))
    assert samples["problems"] == cool["problems"] == chains["problems"]
    assert cool["samples"] == min(samples["samples"], align.COOL_MOST)
    assert cool["temperature"] == 1 / chains["controls"][POWER]["search"]["target"]["power"]
    for run in (samples, cool, chains):
        assert align.scaled(run, samples["samples"], run["problems"][0]["each"]) == run
    assert chains["controls"][REWARD]["search"]["target"]["beta"] == BETA


def test_a_run_at_another_size_is_a_valid_run(tmp_path: Path) -> None:
    found = {}
    for name in (align.SAMPLES, align.CHAINS):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(align.scaled(definition(name), 64, 1), sort_keys=False))
        found[name] = specs.load(path)
    assert (found[align.SAMPLES].samples, found[align.CHAINS].samples) == (64, 1)
    controls = found[align.CHAINS].controls
    steps = {name: control["search"]["steps"] for name, control in controls.items() if control}
    assert steps == {REWARD: 128, POWER: 160}
    with Comparer() as comparer:
        problems = load(found[align.CHAINS].problems, comparer)
    assert len(problems) == 20
    check(controls, problems)
    for control in controls.values():
        if control is not None:
            ControlSpec.model_validate(fill(control, problems[0]))
    filled = fill(controls[REWARD], problems[0])
    assert filled is not None
    data = filled["search"]["target"]["reward"]["data"]
    assert data == {"problem": problems[0].id, "reference": problems[0].answer}
    assert noisy.is_right(data["problem"], data["reference"], f"\\boxed{{{problems[0].answer}}}")
