"""Failures of one request on a real engine end that request, and reach no other."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from steersman.engine.batch import OVERFLOW
from steersman.steering.configuration import Term
from steersman.thinking.governing import Governing
from steersman.wire import Law
from tests.engine.host import HIDDEN, LAYERS, EngineProcess, Job, Runner

LARGE = 1.5e38
QUESTIONS = [f"{first}+9*3-8=?" for first in range(2, 14)]
BLOCKS = 36


@contextlib.contextmanager
def started(runner: Runner) -> Iterator[EngineProcess]:
    # So few blocks that those of a request are somebody else's soon.
    with EngineProcess(runner=runner, num_gpu_blocks_override=BLOCKS) as engine:
        noise = np.random.default_rng(0).choice([-1, 1], (LAYERS, HIDDEN)).astype(np.float32)
        engine.load("signs", dict(enumerate(noise)))
        yield engine


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with started("V1") as engine:
        yield engine


def plain(engine: EngineProcess) -> list[Job]:
    common = {"temperature": 1.0, "max_tokens": 40, "ignore_eos": True}
    options = [{**common, "seed": seed} for seed in range(12)]
    prompts = [engine.encode(question) for question in QUESTIONS]
    return [Job(prompt, (), option) for prompt, option in zip(prompts, options, strict=True)]


def overflowing() -> Job:
    """Every layer is moved as far as its dtype goes: the second is beyond."""
    term = Term("signs", LARGE, prompt=True)
    return Job(list(range(3, 120)), (term,), {"max_tokens": 100, "ignore_eos": True})


def test_a_request_that_overflows_ends_with_the_reason_and_spoils_nothing(
    engine: EngineProcess,
) -> None:
    before = [result.tokens for result in engine.run(*plain(engine))]

    for _ in range(3):
        (bad,) = engine.run(overflowing())
        assert bad.ended == (("error", OVERFLOW),)
        assert bad.token_ids == ((),)
        assert [result.tokens for result in engine.run(*plain(engine))] == before


def test_it_ends_alone_in_its_batch(engine: EngineProcess) -> None:
    good = Job(engine.encode("6+9*3-8=?"), (Term("signs", 0.5),))
    alone = [result.tokens for result in engine.run(*plain(engine)[:3], good)]

    *others, bad, steered = engine.run(*plain(engine)[:3], overflowing(), good)

    assert bad.ended == (("error", OVERFLOW),)
    assert [result.tokens for result in (*others, steered)] == alone
    assert steered.steered > 0


@pytest.mark.parametrize(
    "bad",
    [
        Job((3, 4, 5), (Term("unknown", 1.0),)),
        Job((3, 4, 5), (Term("signs", 1e39),)),
        Job((3, 4, 5), governing=Governing(budget=2**40)),
        Job(
            (3, 4, 5),
            governing=Governing(
                law=Law("proportional", 1e308, -1e308, 1e308, 0.0, 0.0, 1.0, (0.1, 0.2), (0.1, 0.2))
            ),
        ),
    ],
    ids=["vector", "strength", "budget", "law"],
)
@pytest.mark.parametrize("choices", [1, 2])
def test_a_request_that_cannot_be_taken_in_ends_alone(
    engine: EngineProcess, bad: Job, choices: int
) -> None:
    mates = [*plain(engine)[:3], Job(engine.encode("6+9*3-8=?"), (Term("signs", 0.5),))]
    alone = [result.tokens for result in engine.run(*mates)]
    many = Job(
        bad.prompt,
        bad.terms,
        {"n": choices, "seed": 1, "temperature": 1.0},
        governing=bad.governing,
    )

    failed, *others = engine.run(many, *mates)

    for finish_reason, why in failed.ended:
        assert finish_reason == "error"
        assert str(why).startswith("it cannot be controlled: ")
    assert failed.token_ids == ((),) * choices
    assert [result.tokens for result in others] == alone


def test_on_the_second_runner() -> None:
    with started("V2") as engine:
        mates = [
            *(replace(job, options={**job.options, "max_tokens": 4}) for job in plain(engine)[:2]),
            Job(engine.encode("6+9*3-8=?"), (Term("signs", 0.5),), {"max_tokens": 4}),
        ]
        unknown = Job((3, 4, 5), (Term("unknown", 1.0),))
        alone = [result.tokens for result in engine.run(*mates)]

        overflowed, refused, *others = engine.run(overflowing(), unknown, *mates)

        assert overflowed.ended == (("error", OVERFLOW),)
        assert refused.ended[0][0] == "error"
        assert [result.tokens for result in others] == alone
        assert [result.tokens for result in engine.run(*mates)] == alone
