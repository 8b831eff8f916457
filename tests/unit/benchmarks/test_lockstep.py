"""The published loop: the chains it runs have the distribution they should."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest

from tests.unit.benchmarks.scripts import script

lockstep: Any = script("lockstep")
NO, YES, END = range(3)
SHARES = (0.35, 0.25, 0.4)
LONGEST = 4
BETA = 0.5


def score(tokens: Sequence[int]) -> float:
    return float(tokens.count(YES) == 1)


def responses(before: tuple[int, ...] = (), share: float = 1.0) -> Iterator[tuple[Any, float]]:
    """All responses of a toy model, with their probabilities."""
    for token, own in enumerate(SHARES):
        tokens = (*before, token)
        if token == END or len(tokens) == LONGEST:
            yield tokens, share * own
        else:
            yield from responses(tokens, share * own)


class Toy:
    """Draws from that model."""

    def __init__(self) -> None:
        self.random = Random(1)
        self.drawn = 0

    def __call__(self, asked: Sequence[Any], kept: Sequence[list[int]]) -> list[Any]:
        return [self._response(list(tokens)) for tokens in kept]

    def _response(self, tokens: list[int]) -> Any:
        while END not in tokens and len(tokens) < LONGEST:
            tokens += self.random.choices(range(3), SHARES)
            self.drawn += 1
        return lockstep.State(tokens, score(tokens))


def test_the_chains_have_the_target_distribution() -> None:
    toy, chains = Toy(), 20_000
    walked = lockstep.walk(toy, [None] * chains, 12, BETA, Random(2))
    weights = {y: share * math.exp(score(y) / BETA) for y, share in responses()}
    assert sum(dict(responses()).values()) == pytest.approx(1)
    total = sum(weights.values())
    counts = Counter(tuple(state.token_ids) for state in walked.states)
    distance = sum(abs(counts[y] / chains - weights[y] / total) for y in weights) / 2
    assert distance < 0.02
    assert (walked.steps, walked.sampled) == (12 * chains, toy.drawn)
    assert 0.3 < walked.accepted / walked.steps < 0.9


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (r"<think>6</think>so \boxed{7}", 1.0),
        (r"<think>\boxed{7}</think>so \boxed{8}", 0.0),
        (r"\boxed{7}", 1.0),
        (r"<think>\boxed{7}", -40.0),
        ("", 0.0),
    ],
)
def test_rewards_are_those_of_our_server(text: str, reward: float) -> None:
    assert lockstep.reward(text, r"\\boxed\{7\}") == reward
