"""Intervals and tests for paired responses to the same problems."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 2000
# Two-sided level of every interval and test.
LEVEL = 0.05
# Resamples whose sorted weights are held at once.
_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


class Bootstrap:
    """Resamples of problems, with replacement: the cluster bootstrap.

    All samples of a problem stay together, because they are not independent of each other. The
    same resamples serve every quantity, so that differences and ratios are paired.

    Args:
        problems: Number of problems.
        seed: Makes the resamples repeatable.
        resamples: Their number.

    """

    def __init__(self, problems: int, seed: int = 0, resamples: int = RESAMPLES) -> None:
        rng = np.random.default_rng(seed)
        uniform = np.full(problems, 1 / problems)
        # How often each problem is in each resample: [resamples, problems].
        self._counts: Array = rng.multinomial(problems, uniform, size=resamples).astype(float)

    def ratios(self, numerator: Array, denominator: Array | None = None) -> Array:
        """Sum over sum in each resample, NaN where the denominator's is 0: [resamples].

        Args:
            numerator: [problems].
            denominator: [problems]; ones when left out, which makes it a mean.

        """
        below = np.ones_like(numerator) if denominator is None else denominator
        sums = self._counts @ below
        return np.divide(
            self._counts @ numerator, sums, out=np.full_like(sums, np.nan), where=sums != 0
        )

    def quantiles(self, values: Array, quantile: float) -> Array:
        """A quantile of all samples in each resample: [resamples].

        Args:
            values: [problems, samples].
            quantile: Between 0 and 1; the smallest value that this share is not above.

        """
        order = np.argsort(values, axis=None, kind="stable")
        ascending = values.ravel()[order]
        owner = order // values.shape[1]
        found = [
            ascending[np.argmax(weights >= quantile * weights[:, -1:], axis=1)]
            for weights in (
                self._counts[start : start + _CHUNK, owner].cumsum(axis=1)
                for start in range(0, len(self._counts), _CHUNK)
            )
        ]
        return np.concatenate(found)


def interval(value: float, replicates: Array) -> Estimate:
    """The percentile interval (Efron and Tibshirani 1993, chapter 13)."""
    low, high = np.nanquantile(replicates, [LEVEL / 2, 1 - LEVEL / 2])
    return Estimate(float(value), float(low), float(high))


def mean(bootstrap: Bootstrap, values: Array) -> Estimate:
    """Mean of [problems, samples]."""
    return interval(float(values.mean()), bootstrap.ratios(values.mean(axis=1)))


def proportion(bootstrap: Bootstrap, hits: Array) -> Estimate:
    """Share of the ones in [problems, samples]."""
    return share(bootstrap, hits.sum(axis=1), np.full(len(hits), float(hits.shape[1])))


def share(bootstrap: Bootstrap, hits: Array, of: Array) -> Estimate:
    """Sum of `hits` over sum of `of`, where no problem has more hits than `of`: both [problems].

    Where all or none are hits, resampling has nothing to vary and the bound is the exact one of
    Clopper and Pearson, with each problem counted once.
    """
    value = float(hits.sum() / of.sum())
    if 0 < value < 1:
        return interval(value, bootstrap.ratios(hits, of))
    margin = unseen(int(np.count_nonzero(of)))
    return Estimate(value, max(0.0, value - margin), min(1.0, value + margin))


def difference(bootstrap: Bootstrap, ours: Array, theirs: Array) -> Estimate:
    """Mean of the paired difference of two shares: both [problems, samples]."""
    by_problem = (ours - theirs).mean(axis=1)
    value = float(by_problem.mean())
    if np.ptp(by_problem) > 0:
        return interval(value, bootstrap.ratios(by_problem))
    margin = unseen(len(by_problem))
    return Estimate(value, max(-1.0, value - margin), min(1.0, value + margin))


def ratio(bootstrap: Bootstrap, ours: Array, theirs: Array) -> Estimate:
    """Mean of one over mean of the other: both [problems, samples]."""
    above, below = ours.mean(axis=1), theirs.mean(axis=1)
    return interval(float(above.sum() / below.sum()), bootstrap.ratios(above, below))


def quantile(bootstrap: Bootstrap, values: Array, at: float) -> Estimate:
    """A quantile of [problems, samples]."""
    return interval(_quantile(values, at), bootstrap.quantiles(values, at))


def quantile_ratio(bootstrap: Bootstrap, ours: Array, theirs: Array, at: float) -> Estimate:
    """A quantile of one over that of the other: both [problems, samples]."""
    value = _quantile(ours, at) / _quantile(theirs, at)
    return interval(value, bootstrap.quantiles(ours, at) / bootstrap.quantiles(theirs, at))


def unseen(problems: int) -> float:
    """Upper bound of the share of a thing that none of so many problems showed.

    The interval of Clopper and Pearson (Biometrika 26, 1934) for no successes.
    """
    return float(1 - (LEVEL / 2) ** (1 / problems))


def mcnemar(better: int, worse: int) -> float:
    """Exact two-sided p-value of McNemar's test (Psychometrika 12, 1947).

    Args:
        better: Pairs in which only the one was right.
        worse: Pairs in which only the other was.

    """
    pairs = better + worse
    tail, combinations = 0, 1
    for i in range(min(better, worse) + 1):
        tail += combinations
        combinations = combinations * (pairs - i) // (i + 1)
    p_value: float = 2 * tail / 2**pairs
    return min(1.0, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _quantile(values: Array, at: float) -> float:
    return float(np.quantile(values, at, method="inverted_cdf"))
