"""Steering, governing and edits on several ranks."""

from collections.abc import Iterator

import numpy as np
import pytest

from steersman.steering.configuration import EditTerm, Term
from steersman.thinking.governing import Governing
from steersman.trajectory.track import CLOSED_BY
from tests.engine.edits import WITH_EDITS, distributions, random_edit
from tests.engine.host import HIDDEN, LAYERS, EngineProcess, Job, Result

CLOSE = 2e-4
EDIT = random_edit({0: (1, 4), 2: (0, 2, 5), 3: (3,)}, weight=20.0)
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


def edited(engine: EngineProcess) -> np.ndarray:
    """Distributions under an edit that requests choose, under the same live, and under none."""
    engine.offer(EDIT)
    chosen = distributions(engine, EditTerm(EDIT.digest, 1.0))
    engine.apply(EDIT)
    live = distributions(engine, None)
    engine.apply()
    return np.stack([chosen, live, distributions(engine, None)])


@pytest.fixture(scope="module")
def one_rank() -> Iterator[tuple[list[Result], np.ndarray]]:
    with EngineProcess(**WITH_EDITS) as engine:
        yield results(engine), edited(engine)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"tensor_parallel_size": 2}, id="tensor parallel"),
        # vLLM's pipeline stages work on CPUs only when compiled.
        pytest.param({"pipeline_parallel_size": 2, "enforce_eager": False}, id="pipeline stages"),
    ],
)
def test_two_ranks_do_what_one_does(
    options: dict[str, object], one_rank: tuple[list[Result], np.ndarray]
) -> None:
    with EngineProcess(ranks=2, **options, **WITH_EDITS) as engine:
        several = results(engine)
        distributed = edited(engine)

        assert len(engine.facts) == 2
    for result, wanted in zip(several, one_rank[0], strict=True):
        assert result.tokens == wanted.tokens
        assert result.counts == wanted.counts
        np.testing.assert_allclose(result.values, wanted.values, atol=1e-3)
    assert [len(result.values) for result in several[-2:]] == [24, 24]
    assert several[-2].values[-1].closed_by == CLOSED_BY.index("budget")
    assert len({result.tokens for result in several}) > 1
    np.testing.assert_allclose(distributed, one_rank[1], atol=CLOSE)
    chosen, live, plain = distributed
    assert np.abs(chosen - plain).max() > 100 * CLOSE
    assert np.abs(live - plain).max() > 100 * CLOSE
