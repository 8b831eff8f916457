"""Chains as they are sampled: the shares of their states are those of the target, as closely as
their effective number of samples allows. Those of chains with a mistake are not."""

import asyncio
import math
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from steersman.search import chain
from steersman.trajectory.trajectory import Start, Trajectory
from steersman_kernels.layout import Value
from tests.unit.search.test_align import (
    END,
    WORDS,
    Model,
    distribution,
    packed,
    probability,
    responses,
    walked,
)

Array = NDArray[np.float64]

ALPHA = 1.15
CHAINS = 60
STEPS = 40
BURN_IN = 5  # of 41 states; a response has three tokens at most
STATES = {response: number for number, response in enumerate(responses())}
WEIGHTS = np.array([probability(response, 0, 1.0) ** ALPHA for response in STATES])
TARGET: Array = WEIGHTS / WEIGHTS.sum()


@cache
def shares_of(before: tuple[int, ...], alpha: float) -> list[float]:
    return distribution(before, alpha)


@cache
def value_of(before: tuple[int, ...], token: int) -> Value:
    return Value.of(packed(before, token, ALPHA))


class Quick(Model):
    """The toy model, which makes each of its distributions once.

    Args:
        seed: Seed of the request.
        drawn_at: Exponent that tokens are drawn at; they are measured as if it were `ALPHA`.

    """

    def __init__(self, seed: int, drawn_at: float = ALPHA) -> None:
        super().__init__(seed, ALPHA)
        self._drawn_at = drawn_at

    def draws(self, seed: int, before: Sequence[int]) -> tuple[int, bool]:
        shares = shares_of((*before,), self._drawn_at)
        (token,) = Random(f"u {seed} {len(before)}").choices(range(WORDS + 1), shares)
        return token, token == END

    def measured(self, before: Sequence[int], token: int) -> Value:
        return value_of((*before,), token)


class Keeping(Quick):
    """The same, except that a step which is drawn again is what it was at first: that which the
    chain had thrown away, drawn from the state before.

    Attributes:
        kept: Number of such steps.

    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.kept = 0
        self._first: dict[int, Start[str]] = {}  # by seed: a function of the step

    def start_all(self, starts: Sequence[Start[str]]) -> Sequence[Trajectory[str]]:
        return super().start_all([self._as_at_first(start) for start in starts])

    def _as_at_first(self, start: Start[str]) -> Start[str]:
        if start.seed is None:
            return start
        self.kept += start.seed in self._first
        return self._first.setdefault(start.seed, start)


def counted(sources: Sequence[Model], ahead: int) -> Array:
    """Counts of the states of a chain for each source, behind the burn-in: [chains, states]."""

    async def walk() -> Array:
        counts = np.zeros((len(sources), len(STATES)))
        for number, source in enumerate(sources):
            for state in (await walked(source, STEPS, ahead)).states[BURN_IN:]:
                counts[number, STATES[tuple(state.token_ids)]] += 1
        return counts

    return asyncio.run(walk())


def effective_samples(counts: Array) -> float:
    """Independent samples whose shares would vary as much as those of the chains do: each chain is
    a batch, and the variance that counts is the sum over the states.

    Args:
        counts: [chains, states]

    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares.mean(axis=0)
    of_one_sample = (mean * (1 - mean)).sum()
    return float(len(counts) * of_one_sample / shares.var(axis=0, ddof=1).sum())


def distance(counts: Array) -> tuple[float, float]:
    """Total variation between the shares of the states and the target, and its 99.9 % quantile over
    independent samples of the target, as many as are effective."""
    samples = int(effective_samples(counts))
    drawn = np.random.default_rng(0).multinomial(samples, TARGET, size=20_000) / samples
    of_samples = np.abs(drawn - TARGET).sum(axis=1) / 2
    found = np.abs(counts.sum(axis=0) / counts.sum() - TARGET).sum() / 2
    return float(found), float(np.quantile(of_samples, 0.999))


def test_batches_tell_the_effective_number_of_samples() -> None:
    independent = np.random.default_rng(1).multinomial(36, TARGET, size=4000).astype(np.float64)
    assert effective_samples(independent) == pytest.approx(4000 * 36, rel=0.1)
    assert effective_samples(3 * independent) == pytest.approx(4000 * 36, rel=0.1)


@pytest.mark.parametrize("ahead", [1, 4])
def test_shares_are_those_of_the_target(ahead: int) -> None:
    counts = counted([Quick(seed) for seed in range(CHAINS)], ahead)
    found, bound = distance(counts)
    assert found < bound
    assert 300 < effective_samples(counts) < counts.sum()


def test_they_are_not_without_the_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    delta = chain.delta

    def without_lengths(
        target: Any, state: Trajectory[str], proposal: Trajectory[str], *more: Any
    ) -> float:
        lengths = math.log(state.tokens) - math.log(proposal.tokens)
        return delta(target, state, proposal, *more) - lengths

    monkeypatch.setattr(chain, "delta", without_lengths)
    found, bound = distance(counted([Quick(seed) for seed in range(CHAINS // 2)], 1))
    assert found > bound


def test_they_are_not_where_proposals_have_another_temperature() -> None:
    found, bound = distance(counted([Quick(seed, ALPHA / 2) for seed in range(CHAINS // 2)], 1))
    assert found > bound


def test_they_are_not_where_what_was_drawn_ahead_is_kept_after_an_acceptance() -> None:
    sources = [Keeping(seed) for seed in range(CHAINS)]
    found, bound = distance(counted(sources, 4))
    assert sum(source.kept for source in sources) > CHAINS
    assert found > bound
    same = [Keeping(seed) for seed in range(3)]  # nothing is drawn ahead, so nothing can be kept
    assert np.array_equal(counted(same, 1), counted([Quick(seed) for seed in range(3)], 1))
    assert not any(source.kept for source in same)
