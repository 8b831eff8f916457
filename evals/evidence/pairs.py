"""Methods against each other on the same problems."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from steersman.evaluate import markdown
from steersman.evaluate.inference import (
    LEVEL,
    Array,
    Bootstrap,
    Estimate,
    difference,
    holm,
    mcnemar,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A method over another one, on the same problems.

    Attributes:
        ours: The one.
        theirs: The other.
        points: Difference of the shares of right answers.
        better: Problems that only the one solved.
        worse: Problems that only the other solved.
        p_adjusted: Of McNemar's exact test, adjusted for the number of pairs (Holm).

    """

    ours: str
    theirs: str
    points: Estimate
    better: int
    worse: int
    p_adjusted: float

    @property
    def differs(self) -> bool:
        """True if the difference is significant, by both the test and the interval."""
        return self.p_adjusted < LEVEL and self.points.excludes_zero


@dataclass(frozen=True, slots=True)
class Side:
    """A method in a comparison.

    Attributes:
        name: Its name.
        right: 1 for each problem whose answer is right, else 0: [problems, 1].

    """

    name: str
    right: Array


def paired(bootstrap: Bootstrap, sides: Sequence[tuple[Side, Side]]) -> list[Pair]:
    """Compare methods two by two, all on the same problems.

    Args:
        bootstrap: Resamples of the problems.
        sides: The one and the other of each comparison; the tests are adjusted for their number.

    """
    better = [int((ours.right > theirs.right).sum()) for ours, theirs in sides]
    worse = [int((ours.right < theirs.right).sum()) for ours, theirs in sides]
    adjusted = holm([mcnemar(*counts) for counts in zip(better, worse, strict=True)])
    return [
        Pair(
            ours.name,
            theirs.name,
            difference(bootstrap, ours.right, theirs.right),
            better[i],
            worse[i],
            adjusted[i],
        )
        for i, (ours, theirs) in enumerate(sides)
    ]


def sentences(pairs: Iterable[Pair]) -> Iterator[str]:
    """A line of the page for each pair; a significant difference is bold."""
    for pair in pairs:
        mark = "**" if pair.differs else ""
        gain = f"{mark}{markdown.shown(pair.points, markdown.points)}{mark}"
        yield f"- {pair.ours} against {pair.theirs}: {gain} points"


def percent(share: Estimate) -> str:
    """A share as the page's tables have it."""
    return f"{100 * share.value:.1f} %"
