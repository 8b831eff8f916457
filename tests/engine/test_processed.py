"""Measurements of the distribution that tokens are really drawn from, and of confidence."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from steersman.thinking.governing import Governing
from tests.engine.conftest import Started
from tests.engine.host import REASONER, EngineProcess, Job, Result, Runner

EXACT = 1e-3
"""Nats. vLLM processes logits in float32; here it is float64."""
TOKENS = 12
SAMPLING: tuple[dict[str, Any], ...] = (
    {"temperature": 1.0},
    {"temperature": 0.6},
    {"temperature": 1.5, "top_k": 5},
    {"temperature": 2.0, "top_p": 0.7},
    {"temperature": 1.3, "top_k": 1},
    {"temperature": 0},
)
OF_V1: tuple[dict[str, Any], ...] = (
    {"temperature": 1.5, "min_p": 0.05},
    {"temperature": 1.8, "top_k": 30, "top_p": 0.8, "min_p": 0.01},
    {"temperature": 1.2, "presence_penalty": 0.8, "frequency_penalty": 0.5},
    {"temperature": 1.4, "repetition_penalty": 1.3, "top_k": 50},
    {"temperature": 1.5, "logit_bias": {10: 3.0}, "top_p": 0.9},
)
"""vLLM's kernels for these do not run under Triton's interpreter."""
RUNNERS = pytest.mark.parametrize("runner", ["V1", "V2"])
Logits = NDArray[np.float64]


def jobs(engine: EngineProcess, *, processed: bool = True) -> list[Job]:
    """A mixed batch: all ask but one, which is monitored, and one, which is not watched."""
    cases = SAMPLING if engine.facts[0]["runner"] == "V2" else SAMPLING + OF_V1
    shared = {"max_tokens": TOKENS, "ignore_eos": True, "logprobs": -1}
    made = [
        Job(
            [*range(20 + seed, 40 + seed), *engine.encode(f"{seed}+3=?")],
            options={**shared, **case, "seed": seed},
            processed=processed,
            confident=processed and seed % 2 == 0,
        )
        for seed, case in enumerate(cases)
    ]
    mate = replace(made[2], processed=False, confident=False)
    return [*made, replace(mate, monitored=True), mate]


def raw(job: Job, result: Result) -> Logits:
    """[tokens, vocabulary]: the engine's log-probabilities, by transformers' sum made logits."""
    logs = np.array([[step[i] for i in sorted(step)] for step in result.logprobs], np.float64)
    model = AutoModelForCausalLM.from_pretrained(REASONER, dtype=torch.float64)
    ids = torch.tensor([[*job.prompt, *result.tokens]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(job.prompt) - 1 : -1]
    return logs + logits.logsumexp(dim=-1, keepdim=True).numpy()


def processed(logits: Logits, prompt: list[int], before: list[int], options: Any) -> Logits:
    """Log-probabilities of one row as vLLM documents them; -inf for what is excluded."""
    x = logits.copy()
    for token, bias in options.get("logit_bias", {}).items():
        x[token] += bias
    factor = options.get("repetition_penalty", 1.0)
    seen = sorted({*prompt, *before})
    x[seen] = np.where(x[seen] > 0, x[seen] / factor, x[seen] * factor)
    for token, count in Counter(before).items():
        x[token] -= options.get("frequency_penalty", 0) * count
        x[token] -= options.get("presence_penalty", 0)
    x /= options["temperature"]
    shares = np.exp(x - x.max())
    x[shares < options.get("min_p", 0)] = -math.inf
    order = np.argsort(-x, kind="stable")
    x[order[options.get("top_k", len(x)) :]] = -math.inf
    shares = np.exp(x - x.max())
    shares /= shares.sum()
    above = np.cumsum(shares[order]) - shares[order]
    x[order[above >= options.get("top_p", 1.0)]] = -math.inf
    result: Logits = x - np.log(np.exp(x - x.max()).sum()) - x.max()
    return result


def wanted(job: Job, result: Result) -> NDArray[np.float64]:
    """[tokens, (entropy, logprob)] of the processed distributions."""
    rows = []
    for place, logits in enumerate(raw(job, result)):
        if job.options["temperature"] == 0:
            rows.append((0.0, 0.0))
            continue
        before = [*result.tokens[:place]]
        logs = processed(logits, [*job.prompt], before, job.options)
        left = logs[np.isfinite(logs)]
        rows.append((-(np.exp(left) * left).sum(), logs[result.tokens[place]]))
    return np.array(rows)


@RUNNERS
def test_every_value_is_that_of_the_distribution_that_was_drawn_from(
    runner: Runner, started: Started
) -> None:
    engine = started(runner)
    made = jobs(engine)

    results = engine.run(*made)

    for job, result in list(zip(made, results, strict=True))[:-2]:
        said = [(value.processed_entropy, value.processed_logprob) for value in result.values]
        assert len(said) == TOKENS
        np.testing.assert_allclose(said, wanted(job, result), atol=EXACT, rtol=0)
        logs = np.sort([list(step.values()) for step in result.logprobs], axis=1)[:, -20:]
        confidence = np.array([value.confidence for value in result.values])
        if job.confident:
            np.testing.assert_allclose(confidence, logs.mean(axis=1), atol=EXACT, rtol=0)
        else:
            assert np.isnan(confidence).all()
    *_, monitored, unwatched = results
    assert unwatched.values == ()
    assert np.isnan([value[3:6] for value in monitored.values]).all()
    assert np.isfinite([value[:3] for value in monitored.values]).all()


@RUNNERS
def test_measuring_changes_no_token(runner: Runner, started: Started) -> None:
    engine = started(runner)

    measured = engine.run(*jobs(engine))
    plain = engine.run(*jobs(engine, processed=False))

    assert [one.tokens for one in measured] == [one.tokens for one in plain]
    assert measured[-2].tokens == measured[-1].tokens == measured[2].tokens
    of_the_mate = [[value[:3] for value in results[-2].values] for results in (measured, plain)]
    np.testing.assert_allclose(*of_the_mate, atol=1e-5)
    assert [one.values for one in plain[:-2]] == [()] * (len(plain) - 2)


@RUNNERS
def test_greedy_requests_alone(runner: Runner, started: Started) -> None:
    """vLLM processes no logits then."""
    engine = started(runner)
    prompt = engine.encode("1+2=?")
    job = Job(prompt, options={"max_tokens": 4, "temperature": 0}, processed=True)

    (result,) = engine.run(job)

    assert len(result.values) == len(result.tokens)
    assert {(one.processed_entropy, one.processed_logprob) for one in result.values} == {(0, 0)}
    assert np.isnan([(*value[:3], value.confidence) for value in result.values]).all()


@RUNNERS
def test_a_forced_token_has_no_probability_of_its_own(runner: Runner, started: Started) -> None:
    engine = started(runner)
    options = {"max_tokens": 8, "temperature": 1.0, "seed": 1, "top_k": 9}
    job = Job(
        engine.encode("4+5=?"),
        options=options,
        governing=Governing(budget=3),
        processed=True,
    )

    (result,) = engine.run(job)

    forced = [bool(value.forced) for value in result.values]
    assert forced == [place == 4 for place in range(len(forced))]  # the start marker, three tokens
    assert [math.isnan(value.processed_logprob) for value in result.values] == forced
    assert all(0 <= value.processed_entropy <= math.log(9) + 1e-6 for value in result.values)
