"""Cautious sampling against branches kept apart and beam search: the section of the page."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from evals.evidence.pairs import Pair, percent, sentences
from steersman.evaluate import markdown, plots
from steersman.evaluate.inference import Estimate

HEADING = "Is it better to keep the branches apart, or to search for the likeliest response?"

_INTRODUCTION = """\
At temperature 1, {problems} problems. [Cautious sampling](cautious.md) forks where the model is
unsure and keeps one branch. [Branches kept apart](../evals/evidence/tree.py) fork in the same way
above {threshold} nats, a threshold chosen on the training split, grow to their ends and vote, as
EAGer does (arXiv 2510.11170; of its two stages the first). Beam search is vLLM's, on
{beam_problems} of the problems, with responses of at most 128 tokens; it draws nothing."""


@dataclass(frozen=True, slots=True)
class Point:
    """A method at one size.

    Attributes:
        size: Responses, branches or beams.
        accuracy: Share of right answers.
        sampled_tokens: Mean for a problem.

    """

    size: int
    accuracy: Estimate
    sampled_tokens: float


@dataclass(frozen=True, slots=True)
class Branching:
    """All methods on the same problems.

    Attributes:
        problems: Their number.
        beam_problems: Number of those that beam search answered.
        threshold: Entropy in nats above which branches that are kept apart fork.
        methods: The sizes of each method, cheapest first.
        pairs: Methods against each other.
        beam_pairs: Beam search against others, on its problems.

    """

    problems: int
    beam_problems: int
    threshold: float
    methods: Mapping[str, tuple[Point, ...]]
    pairs: tuple[Pair, ...]
    beam_pairs: tuple[Pair, ...]


def branching_section(found: Branching, picture: str) -> str:
    """The section of the page.

    Args:
        found: The numbers.
        picture: Address of the picture, from the page.

    """
    introduction = _INTRODUCTION.format(
        problems=found.problems, beam_problems=found.beam_problems, threshold=found.threshold
    )
    return "\n".join(
        (
            f"## {HEADING}",
            "",
            introduction,
            "",
            "At the tokens of a cautious response or less, and at those of 8 samples or less:",
            "",
            *sentences(found.pairs),
            "",
            f"On the {found.beam_problems} problems:",
            "",
            *sentences(found.beam_pairs),
            "",
            *markdown.table(
                ("method", "size", "accuracy", "sampled tokens"),
                (
                    (name, str(point.size), percent(point.accuracy), f"{point.sampled_tokens:.0f}")
                    for name, points in found.methods.items()
                    for point in points
                ),
            ),
            "",
            f"![{HEADING}]({picture})",
            "",
        )
    )


def branching_figure(found: Branching) -> Figure:
    """The picture."""
    return plots.accuracy_curves(
        {
            name: [(point.sampled_tokens, point.accuracy) for point in points]
            for name, points in found.methods.items()
        }
    )
