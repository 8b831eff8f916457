"""Numbers from graded samples: accuracy, lengths, votes, entropies."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from random import Random
from statistics import fmean, pstdev

from steersman.puzzles.problems import Problem

_RESAMPLES = 1000


@dataclass(frozen=True)
class Graded:
    """One sampled response to a problem, graded.

    `answer` is the content of its final box, None without one. Entropies are means over the tokens
    of a phase, in nats; None for an empty phase.
    """

    problem: Problem
    answer: str | None
    right: bool
    thinking_tokens: int
    checks: int
    thinking_entropy: float | None
    answer_entropy: float | None


def accuracy(samples: Iterable[Graded]) -> float:
    """The share of right samples."""
    return fmean(sample.right for sample in samples)


def closed(samples: Iterable[Graded]) -> float:
    """The share of samples that closed their thinking and gave a boxed answer."""
    return fmean(sample.answer is not None for sample in samples)


def variation(samples: Sequence[Graded]) -> float:
    """Coefficient of variation of the number of thinking tokens."""
    lengths = [sample.thinking_tokens for sample in samples]
    return pstdev(lengths) / fmean(lengths)


def deciles(samples: Sequence[Graded], seed: int = 0) -> list[float]:
    """Accuracy in ten equal groups by thinking length, shortest first; ties fall at random."""
    mixed = Random(seed).sample(list(samples), len(samples))
    return [accuracy(group) for group in _groups(mixed, 10)]


def middle_decile(samples: Sequence[Graded], seed: int = 0) -> float:
    """Accuracy of the tenth of the samples around the median thinking length."""
    mixed = Random(seed).sample(list(samples), len(samples))
    return accuracy(_groups(mixed, 20)[9] + _groups(mixed, 20)[10])


def by_problem(samples: Iterable[Graded]) -> list[list[Graded]]:
    """The samples of each problem, in the order drawn."""
    ordered = sorted(samples, key=lambda sample: sample.problem.id)
    return [list(group) for _, group in groupby(ordered, key=lambda sample: sample.problem.id)]


def majority(samples: Iterable[Graded]) -> float:
    """The share of problems whose commonest answer is right; the earlier answer wins a tie."""
    return fmean(_vote(group) for group in by_problem(samples))


def shortest(samples: Iterable[Graded]) -> float:
    """The share of problems whose shortest sample is right: what the first to finish would give."""
    return fmean(
        min(group, key=lambda sample: sample.thinking_tokens).right for group in by_problem(samples)
    )


def interval(samples: Iterable[Graded], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the accuracy, resampling problems."""
    rng = Random(seed)
    groups = [accuracy(group) for group in by_problem(samples)]
    means = sorted(fmean(rng.choices(groups, k=len(groups))) for _ in range(_RESAMPLES))
    return means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES)]


def _groups(samples: list[Graded], count: int) -> list[list[Graded]]:
    """`count` equal groups by thinking length; the sort is stable."""
    ordered = sorted(samples, key=lambda sample: sample.thinking_tokens)
    bounds = [round(index * len(ordered) / count) for index in range(count + 1)]
    return [ordered[low:high] for low, high in pairwise(bounds)]


def _vote(group: Sequence[Graded]) -> bool:
    votes = Counter(sample.answer for sample in group if sample.answer is not None)
    winner = votes.most_common(1)[0][0] if votes else None
    return any(sample.right for sample in group if sample.answer == winner)
