"""Steering where the scheduler splits a request, drops it and takes it up again."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from steersman.steering.configuration import Term
from tests.engine.conftest import SCARCE, Started
from tests.engine.host import HIDDEN, LAYERS, EngineProcess, Job, Result, Runner

CLOSE = 5e-4
TOKENS = 40
VECTOR = np.random.default_rng(0).normal(size=(LAYERS, HIDDEN)).astype(np.float32)
QUESTIONS = tuple(f"{i}+{j}*3-{k}=?" for i in (6, 8) for j in (3, 5) for k in (2, 4))
TERMS = (
    (Term("v", 0.3),),
    (Term("v", 0.3, phase="thinking", at="boundary", prompt=True),),
    (),
    (Term("v", -0.3, phase="answer"), Term("v", 0.2, layers=(0, 3))),
)


def long_jobs(engine: EngineProcess, tokens: int) -> list[Job]:
    """Requests of every kind, each with a long prompt of its own."""
    options = {"max_tokens": tokens, "ignore_eos": True, "logprobs": 0}
    return [
        Job([*range(20 + i, 100 + i), *engine.encode(question)], TERMS[i % len(TERMS)], options)
        for i, question in enumerate(QUESTIONS)
    ]


@pytest.fixture(scope="module")
def expected() -> Iterator[list[Result]]:
    """Each request alone, its prompt in one piece."""
    with EngineProcess(enable_prefix_caching=False) as engine:
        engine.load("v", dict(enumerate(VECTOR)))
        yield [engine.run(job)[0] for job in long_jobs(engine, TOKENS)]


SPLIT = {name: value for name, value in SCARCE.items() if name != "num_gpu_blocks_override"}


@pytest.mark.parametrize(
    ("runner", "options"),
    [
        pytest.param("V1", {**SPLIT, "enable_prefix_caching": False}, id="V1, split prompts"),
        pytest.param("V1", SCARCE, id="V1, preemption and split prompts"),
        pytest.param("V2", SCARCE, id="V2, preemption and split prompts"),
    ],
)
def test_requests_come_out_as_alone(
    runner: Runner, options: dict[str, Any], expected: list[Result], started: Started
) -> None:
    engine = started(runner, **options)
    engine.load("v", dict(enumerate(VECTOR)))
    before = engine.metrics()["vllm:num_preemptions"]

    results = engine.run(*long_jobs(engine, TOKENS))
    preemptions = engine.metrics()["vllm:num_preemptions"] - before

    assert (preemptions > 0) == ("num_gpu_blocks_override" in options)
    for result, alone in zip(results, expected, strict=True):
        assert result.tokens == alone.tokens
        assert result.counts == alone.counts
        sampled = [step[token] for step, token in zip(result.logprobs, result.tokens, strict=True)]
        wanted = [step[token] for step, token in zip(alone.logprobs, alone.tokens, strict=True)]
        np.testing.assert_allclose(sampled, wanted, atol=CLOSE)
