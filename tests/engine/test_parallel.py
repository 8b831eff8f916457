"""Steering and governing on several ranks."""

from collections.abc import Iterator

import numpy as np
import pytest

from steersman.steering.configuration import Term
from steersman.thinking.governing import Governing
from steersman.trajectory.track import CLOSED_BY
from tests.engine.host import HIDDEN, LAYERS, EngineProcess, Job, Result

VECTOR = np.random.default_rng(0).normal(size=(LAYERS, HIDDEN)).astype(np.float32)
TERMS = (
    (),
    (Term("v", 60.0),),
    (Term("v", -60.0, phase="thinking", at="boundary"),),
    (Term("v", 60.0, layers=(0,)), Term("v", 30.0, layers=(3,), prompt=True)),
)


def results(engine: EngineProcess) -> list[Result]:
    engine.load("v", dict(enumerate(VECTOR)))
    prompt = engine.encode("6+9*3-8=?")
    options = {"max_tokens": 24, "ignore_eos": True, "logprobs": 0}
    governed = (
        Job(prompt, TERMS[1], options, governing=Governing(budget=5, min_answer=4), monitored=True),
        Job(prompt, options=options, monitored=True),
    )
    return engine.run(*(Job(prompt, terms, options) for terms in TERMS), *governed)


@pytest.fixture(scope="module")
def one_rank() -> Iterator[list[Result]]:
    with EngineProcess() as engine:
        yield results(engine)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"tensor_parallel_size": 2}, id="tensor parallel"),
        # vLLM's pipeline stages work on CPUs only when compiled.
        pytest.param({"pipeline_parallel_size": 2, "enforce_eager": False}, id="pipeline stages"),
    ],
)
def test_two_ranks_give_the_text_of_one(options: dict[str, object], one_rank: list[Result]) -> None:
    with EngineProcess(ranks=2, **options) as engine:
        several = results(engine)

        assert len(engine.facts) == 2
    for result, wanted in zip(several, one_rank, strict=True):
        assert result.tokens == wanted.tokens
        assert result.counts == wanted.counts
        np.testing.assert_allclose(result.values, wanted.values, atol=1e-3)
    assert [len(result.values) for result in several[-2:]] == [24, 24]
    assert several[-2].values[-1].closed_by == CLOSED_BY.index("budget")
    assert len({result.tokens for result in several}) > 1
