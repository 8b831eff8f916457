"""Decisions of cautious sampling on a real engine, whatever the scheduler does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from steersman.sampling.trials import number_of_trials
from steersman_client import Cautious
from tests.engine.conftest import SCARCE, Started
from tests.engine.drawing import Drawn
from tests.engine.host import EngineProcess, Job
from tests.engine.test_scheduling import SPLIT

SPEC = Cautious(method="cautious", max_trials=5, max_trial_tokens=8)
TOKENS = 40
EXACT = 1e-5
CLOSE = 1e-3


def jobs(engine: EngineProcess, count: int = 4, tokens: int = TOKENS) -> list[Job]:
    """Seeded requests, each with a long prompt of its own."""
    options = {"max_tokens": tokens, "ignore_eos": True, "temperature": 1.0, "top_p": 0.95}
    return [
        Job(
            [*range(20 + seed, 100 + seed), *engine.encode(f"{seed + 4}+3*{seed + 2}=?")],
            options={**options, "seed": seed, "min_tokens": tokens},
        )
        for seed in range(count)
    ]


@pytest.fixture(scope="module")
def expected(started: Started) -> list[Drawn]:
    """Each request alone."""
    engine = started()
    return [engine.draw(SPEC, job)[0] for job in jobs(engine)]


def assert_follows(drawn: Drawn, spec: Cautious) -> None:
    """Recompute all decisions from the measurements of the response's own tokens."""
    at = {trials.at: trials for trials in drawn.trials}
    place = 0
    while place < len(drawn.token_ids):
        count = number_of_trials(drawn.values[place].processed_entropy, spec)
        if count == 1:
            assert place not in at
            place += 1
            continue
        trials = at.pop(place)
        assert [one.trial for one in trials.trials] == [*range(count)]
        logprobs = [one.logprob for one in trials.trials]
        assert trials.winner == max(range(count), key=lambda one: (logprobs[one], -one))
        end = place + trials.trials[trials.winner].tokens
        own = [value.processed_logprob for value in drawn.values[place:end]]
        assert logprobs[trials.winner] == pytest.approx(np.mean(own), abs=EXACT)
        place = end
    assert not at


def means(drawn: Drawn) -> NDArray[np.float64]:
    """The mean log-probabilities of all trials."""
    found = [result.logprob for trials in drawn.trials for result in trials.trials]
    return np.array(found, np.float64)


def assert_same(drawn: list[Drawn], expected: list[Drawn]) -> None:
    for one, other in zip(drawn, expected, strict=True):
        assert one.token_ids == other.token_ids
        assert len(one.values) == len(one.token_ids) == TOKENS
        decided = [[(each.at, each.winner) for each in which.trials] for which in (one, other)]
        assert decided[0] == decided[1]
        np.testing.assert_allclose(means(one), means(other), atol=CLOSE)


def test_decisions_follow_from_the_measurements(expected: list[Drawn]) -> None:
    for one in expected:
        assert_follows(one, SPEC)
        assert one.lost > 0
    assert sum(len(one.trials) for one in expected) > 12
    assert {each.winner for one in expected for each in one.trials} > {0, 1}


def test_one_trial_draws_the_tokens_of_a_plain_request(started: Started) -> None:
    engine = started()
    made = jobs(engine)
    plain = engine.run(*(replace(job, processed=True) for job in made))
    alone = engine.draw(SPEC.model_copy(update={"max_trials": 1}), *made)
    assert [one.token_ids for one in alone] == [one.tokens for one in plain]
    assert [one.lost for one in alone] == [0] * len(made)


@pytest.mark.parametrize("room", [1, 2])
def test_forks_that_wait_change_nothing(started: Started, expected: list[Drawn], room: int) -> None:
    engine = started()
    assert_same(engine.draw(SPEC, *jobs(engine), room=room), expected)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="side by side"),
        pytest.param({**SPLIT, "enable_prefix_caching": False}, id="split prompts, no cache"),
        pytest.param(SCARCE, id="preemption and split prompts"),
    ],
)
def test_the_scheduler_changes_nothing(
    started: Started, expected: list[Drawn], options: dict[str, Any]
) -> None:
    engine = started("V1", **options)
    before = engine.metrics()["vllm:num_preemptions"]

    drawn = engine.draw(SPEC, *jobs(engine))

    preemptions = engine.metrics()["vllm:num_preemptions"] - before
    assert (preemptions > 0) == ("num_gpu_blocks_override" in options)
    assert_same(drawn, expected)


def test_the_other_runner_decides_by_the_same_rule(started: Started) -> None:
    engine = started("V2")
    (job,) = jobs(engine, count=1, tokens=8)
    first, second = [engine.draw(SPEC, job)[0] for _ in range(2)]
    assert_follows(first, SPEC)
    assert first.trials
    assert (first.token_ids, first.trials) == (second.token_ids, second.trials)
