"""Selection of one response among the states of chains."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from steersman.trajectory.answers import canonical
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Trajectory

How = Literal["majority", "mbr", "last", "best"]


def select(
    states: Sequence[Trajectory[OutputT]],
    how: How,
    reading: Reading,
    value: Callable[[Trajectory[OutputT]], float],
) -> tuple[Trajectory[OutputT], str]:
    """The chosen state, and the word for how it was.

    Args:
        states: The states of all chains, repeated as often as they stand there.
        how: The way to choose. Where none of them has an answer, a majority is chosen by `mbr`.
        reading: Where the phases of a response begin and end.
        value: The larger, the more the target likes a state.

    """
    if how == "last":
        return states[-1], how
    if how == "best":
        return max(states, key=value), how
    if how == "majority":
        answers = {one: canonical(reading.phases(one).answer or "") for one in {*states}}
        votes = Counter(answers[one] for one in states if answers[one])
        if votes:
            answer = votes.most_common(1)[0][0]
            counts = Counter(one for one in states if answers[one] == answer)
            return counts.most_common(1)[0][0], how
    return _most_alike(states), "mbr"


def _most_alike(states: Sequence[Trajectory[OutputT]]) -> Trajectory[OutputT]:
    """The state of least Bayes risk: most like all others, word by word."""
    counts = Counter(states)
    words = {one: Counter(one.text.split()) for one in counts}

    def gain(one: Trajectory[OutputT]) -> float:
        return sum(count * _overlap(words[one], words[other]) for other, count in counts.items())

    return max(counts, key=gain)


def _overlap(one: Counter[str], other: Counter[str]) -> float:
    """F1 of two bags of words."""
    size = one.total() + other.total()
    return 2 * (one & other).total() / size if size else 1.0
