"""Selections among several responses to a problem, and what the responses took."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from steersman.evaluate.inference import Array

BETA = 0.5
"""Divisor of the reward in a vote's weight."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response to a problem.

    Attributes:
        answer: Its answer in normal form; empty if it has none.
        right: True if that is right.
        reward: The reward's score of it.

    """

    answer: str
    right: bool
    reward: float = 0.0


Selection = Callable[[Sequence[Response]], bool]
"""Tells of some responses whether the selected one is right."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Responses to each problem in the order in which they were drawn, or stood in a chain.

    Attributes:
        responses: [problems, responses].
        tokens: Tokens that were sampled up to each of them, [problems, responses].

    """

    responses: list[list[Response]]
    tokens: Array

    def right(self, count: int, select: Selection) -> Array:
        """1 for each problem whose selection among the first responses is right: [problems, 1]."""
        return np.array([[float(select(own[:count]))] for own in self.responses])

    def within(self, tokens: float) -> int:
        """Number of responses that take no more tokens, on average."""
        return int(np.searchsorted(self.tokens.mean(axis=0), tokens, side="right"))


def majority(responses: Sequence[Response]) -> bool:
    """Vote: right if the most frequent answer is."""
    return _most(responses, [1.0] * len(responses))


def weighted(responses: Sequence[Response]) -> bool:
    """Vote in which a response counts as often as exp(reward / beta)."""
    top = max(one.reward for one in responses)
    return _most(responses, [math.exp((one.reward - top) / BETA) for one in responses])


def best(responses: Sequence[Response]) -> bool:
    """Right if the response with the largest reward is."""
    return max(responses, key=lambda one: one.reward).right


def _most(responses: Sequence[Response], weights: Sequence[float]) -> bool:
    votes: dict[str, float] = {}
    right: dict[str, bool] = {}
    for one, weight in zip(responses, weights, strict=True):
        if one.answer:
            votes[one.answer] = votes.get(one.answer, 0.0) + weight
            right.setdefault(one.answer, one.right)
    return bool(votes) and right[max(votes, key=lambda answer: votes[answer])]
