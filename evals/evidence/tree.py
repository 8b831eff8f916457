"""Branches that are kept apart: a response forks where the model is unsure, and both go on.

So does EAGer (arXiv 2510.11170, its first stage): where the entropy of the next token is above a
threshold, one branch goes on with the token that it has, a new one with the likeliest other token,
until there are as many branches as allowed. There the branches grow side by side. Here each is
drawn to its end at once, and the earliest unsure token of all of them is forked next, which gives
the same tree: a branch does not depend on the others but for the limit on their number.
"""

import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens that were drawn after a prefix, to the end of the response.

    Attributes:
        tokens: Their ids.
        entropies: Entropy in nats of the distribution that each was drawn from.
        others: Id of the likeliest other token at each.

    """

    tokens: tuple[int, ...]
    entropies: tuple[float, ...]
    others: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """A response of the tree.

    Attributes:
        tokens: Ids of the whole response.
        own: Number of its tokens that it does not share with the branch that it came from.

    """

    tokens: tuple[int, ...]
    own: int


Draw = Callable[[tuple[int, ...], int], Awaitable[Drawn]]
"""Draws the rest of the response that begins with some tokens; the number is the branch's."""


async def grow(draw: Draw, threshold: float, most: int) -> list[Branch]:
    """Draw a response and its forks, in the order in which they would have been forked side by
    side; a smaller tree is the beginning of a larger one.

    Args:
        draw: Draws the rest of a response.
        threshold: Entropy in nats above which a response is forked.
        most: Most branches.

    """
    branches: list[Branch] = []
    unsure: list[tuple[int, int, int]] = []
    prefix: tuple[int, ...] = ()
    while True:
        drawn, number = await draw(prefix, len(branches)), len(branches)
        own = len(drawn.tokens) + (1 if prefix else 0)
        branches.append(Branch((*prefix, *drawn.tokens), own))
        for offset, entropy in enumerate(drawn.entropies):
            if entropy > threshold:
                heapq.heappush(unsure, (len(prefix) + offset, number, drawn.others[offset]))
        if not unsure or len(branches) == most:
            return branches
        at, parent, other = heapq.heappop(unsure)
        prefix = (*branches[parent].tokens[:at], other)
