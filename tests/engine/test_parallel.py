"""Steering, governing and edits on several ranks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from steersman.steering.configuration import EditTerm, Term
from steersman.thinking.governing import Governing
from steersman_kernels.layout import REASONS
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


def chosen(engine: EngineProcess) -> np.ndarray:
    """Distributions without an edit, and under one that the requests choose."""
    engine.offer(EDIT)
    return np.stack([distributions(engine, edit) for edit in (None, EditTerm(EDIT.digest, 1.0))])


def live(engine: EngineProcess) -> np.ndarray:
    """The same, with the edit in the weights."""
    plain = distributions(engine, None)
    engine.apply(EDIT)
    edited = distributions(engine, None)
    engine.apply()
    return np.stack([plain, edited])


@dataclass(frozen=True)
class OneRank:
    """Results of a single rank."""

    results: list[Result]
    chosen: np.ndarray
    live: np.ndarray


@pytest.fixture(scope="module")
def one_rank() -> Iterator[OneRank]:
    with EngineProcess(**WITH_EDITS) as engine:
        yield OneRank(results(engine), chosen(engine), live(engine))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"tensor_parallel_size": 2}, id="tensor parallel"),
        # vLLM's pipeline stages work on CPUs only when compiled.
        pytest.param({"pipeline_parallel_size": 2, "enforce_eager": False}, id="pipeline stages"),
    ],
)
def test_two_ranks_do_what_one_does(options: dict[str, object], one_rank: OneRank) -> None:
    with EngineProcess(**options, **WITH_EDITS) as engine:
        several = results(engine)
        np.testing.assert_allclose(chosen(engine), one_rank.chosen, atol=CLOSE)
        if "enforce_eager" not in options:  # compiled on a CPU, weights are constants
            np.testing.assert_allclose(live(engine), one_rank.live, atol=CLOSE)

        assert len(engine.facts) == 2
    for result, wanted in zip(several, one_rank.results, strict=True):
        assert result.tokens == wanted.tokens
        assert result.counts == wanted.counts
        np.testing.assert_allclose(result.values, wanted.values, atol=1e-3)
    assert [len(result.values) for result in several[-2:]] == [24, 24]
    assert several[-2].values[-1].closed_by == REASONS.index("budget")
    assert len({result.tokens for result in several}) > 1
    for plain, edited in (one_rank.chosen, one_rank.live):
        assert np.abs(edited - plain).max() > 100 * CLOSE
