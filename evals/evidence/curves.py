"""Accuracy of several methods over the tokens that they spend, and its section of the page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from evals.evidence.pairs import Pair, percent, sentences
from steersman.evaluate import markdown, plots
from steersman.evaluate.inference import Estimate

HEADING = "Does a chain beat a vote, or the best of n?"

_INTRODUCTION = """\
{problems} problems. Every method may spend the tokens of n samples on each, and [chains](align.md)
make as many steps as that allows. The reward knows whether an answer is right, and is
[noisy](../evals/evidence/noisy.py) on purpose: a tenth of the responses is taken for the opposite,
and noise with heavy tails is added, so that a better score is not always a better answer. The power
has no reward. It draws its proposals at temperature 1/4, so there is a majority of plain samples at
that temperature too, of as many as the tokens allow, and of 16 at most."""


@dataclass(frozen=True, slots=True)
class Point:
    """A method at one size.

    Attributes:
        samples: Plain samples whose tokens it may spend.
        steps: Steps of a chain; None for what is made of the samples themselves.
        accuracy: Share of right answers.
        sampled_tokens: Mean for a problem.

    """

    samples: int
    steps: int | None
    accuracy: Estimate
    sampled_tokens: Estimate


@dataclass(frozen=True, slots=True)
class SizedPair(Pair):
    """A method over another one, at one size.

    Attributes:
        samples: Plain samples whose tokens both may spend.

    """

    samples: int


@dataclass(frozen=True, slots=True)
class Curves:
    """All methods on the same problems.

    Attributes:
        problems: Their number.
        methods: The sizes of each method, cheapest first.
        pairs: Methods against each other, at the same size.
        as_served: Share of the problems on which the server's own selection among all states is
            right if ours is, and wrong if ours is, by chain: 1 if nothing is amiss.
        same_rewards: Share of the states to which the server gave the score that they have here: 1
            if nothing is amiss.

    """

    problems: int
    methods: Mapping[str, tuple[Point, ...]]
    pairs: tuple[SizedPair, ...]
    as_served: Mapping[str, float]
    same_rewards: float

    @property
    def largest(self) -> int:
        """The largest size, in samples."""
        return max(point.samples for points in self.methods.values() for point in points)


def curves_section(curves: Curves, picture: str) -> str:
    """The section of the page.

    Args:
        curves: The numbers.
        picture: Address of the picture, from the page.

    """
    return "\n".join(
        (
            f"## {HEADING}",
            "",
            _INTRODUCTION.format(problems=curves.problems),
            "",
            *_findings(curves),
            "",
            *_table(curves),
            "",
            "In parentheses: steps of the chain. The differences are adjusted by Holm's method for "
            f"all {len(curves.pairs)} comparisons, of all sizes.",
            "",
            f"![{HEADING}]({picture})",
            "",
        )
    )


def curves_figure(curves: Curves) -> Figure:
    """The picture."""
    return plots.accuracy_curves(
        {
            name: [(point.sampled_tokens.value, point.accuracy) for point in points]
            for name, points in curves.methods.items()
        }
    )


def _findings(curves: Curves) -> Iterator[str]:
    yield f"At the tokens of {curves.largest} samples:"
    yield ""
    yield from sentences(pair for pair in curves.pairs if pair.samples == curves.largest)
    for name, points in curves.methods.items():
        best = max(points, key=lambda point: point.accuracy.value)
        if points[-1].samples > best.samples:
            yield (
                f"- {name} is at its best at {best.samples}: {percent(best.accuracy)}, "
                f"{percent(points[-1].accuracy)} at {points[-1].samples}"
            )


def _table(curves: Curves) -> Iterator[str]:
    sizes = sorted({point.samples for points in curves.methods.values() for point in points})
    yield from markdown.table(
        ("at the tokens of n samples", *(f"n = {size}" for size in sizes)),
        (
            (name, *(_cell({point.samples: point for point in points}.get(n)) for n in sizes))
            for name, points in curves.methods.items()
        ),
    )


def _cell(point: Point | None) -> str:
    if point is None:
        return ""
    steps = "" if point.steps is None else f" ({point.steps})"
    return f"{percent(point.accuracy)}{steps}"
