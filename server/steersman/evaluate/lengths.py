"""Accuracy by length: whether a model's shortest responses are its worst."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from steersman.evaluate.inference import (
    Array,
    Bootstrap,
    Estimate,
    difference,
    interval,
    share,
)
from steersman.evaluate.table import Table

_DECILES = 10
# With fewer responses a decile says nothing.
FEWEST_RESPONSES = 100


@dataclass(frozen=True, slots=True)
class Decile:
    """A tenth of the responses, by length."""

    shortest: int
    longest: int
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Lengths:
    """Accuracy of one control's responses by their length.

    Attributes:
        measure: Tokens of the thinking phase, or of the whole response where the server does not
            count those.
        deciles: Tenths of the responses, shortest first; ties fall at random.
        median: The tenth around the median length.
        shortest_minus_median: Accuracy of the shortest tenth over that of the median tenth. Easy
            problems have short responses, so a difference of 0 can hide a loss.
        shortest_of_problem: Accuracy of the shortest of a problem's samples over that of one
            drawn at random; None with a single sample. It is what First Finish Search among that
            many branches would gain, and no matter of easy and hard problems.

    """

    measure: Literal["thinking", "response"]
    deciles: tuple[Decile, ...]
    median: Decile
    shortest_minus_median: Estimate
    shortest_of_problem: Estimate | None


def by_length(table: Table, bootstrap: Bootstrap, seed: int = 0) -> Lengths | None:
    """Accuracy by length, or None with fewer than `FEWEST_RESPONSES` responses.

    Args:
        table: The responses under one control.
        bootstrap: Over the problems of the table.
        seed: Breaks ties.

    """
    if table.right.size < FEWEST_RESPONSES:
        return None
    length = _length(table)
    position = _positions(length, seed)
    deciles = tuple(
        _decile(table.right, length, _within(position, i / _DECILES, (i + 1) / _DECILES), bootstrap)
        for i in range(_DECILES)
    )
    shortest = _within(position, 0, 1 / _DECILES)
    middle = _within(position, 0.5 - 0.5 / _DECILES, 0.5 + 0.5 / _DECILES)
    median = _decile(table.right, length, middle, bootstrap)
    replicates = [
        bootstrap.ratios((table.right * part).sum(axis=1), part.sum(axis=1))
        for part in (shortest, middle)
    ]
    return Lengths(
        measure="response" if table.thinking is None else "thinking",
        deciles=deciles,
        median=median,
        shortest_minus_median=interval(
            deciles[0].accuracy.value - median.accuracy.value, replicates[0] - replicates[1]
        ),
        shortest_of_problem=_shortest_of_problem(table, bootstrap),
    )


def shortest_tenth(
    ours: Table, theirs: Table, bootstrap: Bootstrap, seed: int = 0
) -> Estimate | None:
    """Accuracy of one control's shortest tenth minus that of another's, each by its own lengths.

    It is how ThinkEdit (arXiv 2503.22048) measures what an edit does to short responses.

    Args:
        ours: The responses under one control.
        theirs: Responses under the other, to the same questions.
        bootstrap: Over the problems of both.
        seed: Breaks ties.

    Returns:
        The difference, or None with fewer than `FEWEST_RESPONSES` responses.

    """
    if ours.right.size < FEWEST_RESPONSES:
        return None
    value, replicates = 0.0, np.zeros(1)
    for sign, table in ((1, ours), (-1, theirs)):
        part = _within(_positions(_length(table), seed), 0, 1 / _DECILES)
        hits, of = (table.right * part).sum(axis=1), part.sum(axis=1)
        value += sign * hits.sum() / of.sum()
        replicates = replicates + sign * bootstrap.ratios(hits, of)
    return interval(value, replicates)


def _length(table: Table) -> Array:
    return table.completion if table.thinking is None else table.thinking


def _positions(length: Array, seed: int) -> Array:
    """Rank of every response by length, ties at random, as a share of them all."""
    mixed = np.random.default_rng(seed).random(length.size)
    order = np.lexsort((mixed, length.ravel()))
    position = np.empty(length.size)
    position[order] = np.arange(length.size) / length.size
    return position.reshape(length.shape)


def _within(position: Array, low: float, high: float) -> Array:
    return ((position >= low) & (position < high)).astype(float)


def _decile(right: Array, length: Array, part: Array, bootstrap: Bootstrap) -> Decile:
    lengths = length[part > 0]
    accuracy = share(bootstrap, (right * part).sum(axis=1), part.sum(axis=1))
    return Decile(int(lengths.min()), int(lengths.max()), accuracy)


def _shortest_of_problem(table: Table, bootstrap: Bootstrap) -> Estimate | None:
    if table.right.shape[1] == 1:
        return None
    least = table.completion.min(axis=1, keepdims=True)
    first = (table.completion == least).astype(float)
    # Of several that are equally short, each could have been the first.
    found = (table.right * first).sum(axis=1) / first.sum(axis=1)
    return difference(bootstrap, found[:, None], table.right.mean(axis=1, keepdims=True))
