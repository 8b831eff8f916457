"""Chains as a picture: target, acceptance and length over the steps, and shares of answers."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from steersman.chains.asking import Answer
from steersman.chains.record import Record
from steersman.chains.shares import largest
from steersman.evaluate.plots import COLOURS, DPI
from steersman_client import ChainStep

_SIZE = (9.0, 6.5)
_ANSWERS = 10
_LABEL = 20
_TITLE = 90


def formats() -> Mapping[str, str]:
    """Formats of pictures, by their suffix without the dot."""
    return Figure().canvas.get_supported_filetypes()


def draw(answer: Answer, question: str, target: str, path: Path) -> None:
    """Draw the chains of an answer.

    Args:
        answer: The answer.
        question: The question, for the title.
        target: Name of the target, for its axis.
        path: File to write, in the format of its suffix.

    Raises:
        OSError: It cannot be written.

    """
    figure = chains(answer, question, target)
    with warnings.catch_warnings():
        # A box stands for a character that the typeface has not: an answer may have any.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(path, dpi=DPI)


def chains(answer: Answer, question: str, target: str) -> Figure:
    """Four panels: see `draw`."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    (targets, accepted), (lengths, answers) = figure.subplots(2, 2)
    _over_steps(targets, answer.record, lambda step: step.target, target)
    _over_steps(accepted, answer.record, lambda step: step.acceptance, "accepted so far")
    accepted.set_ylim(-0.03, 1.03)
    accepted.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _over_steps(lengths, answer.record, lambda step: step.tokens, "tokens of the response")
    lengths.set_ylim(bottom=0)
    _answers(answers, answer.answers)
    if len(answer.record.chains) > 1:
        targets.legend(title="chain", frameon=False, fontsize=8, ncols=2)
    figure.suptitle(_short(question, _TITLE), fontsize="medium", parse_math=False)
    return figure


def _over_steps(
    axes: Axes, record: Record, value: Callable[[ChainStep], float | None], label: str
) -> None:
    """A line for each chain."""
    for chain, walked in record.chains.items():
        # A state stays until the next step.
        axes.plot(
            range(1, len(walked) + 1),
            np.array([value(step) for step in walked], np.float64),
            color=COLOURS[chain % len(COLOURS)],
            linestyle="-" if chain < len(COLOURS) else "--",
            drawstyle="steps-post",
            linewidth=1.2,
            marker=".",
            markersize=4,
            label=str(chain),
        )
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _answers(axes: Axes, answers: Mapping[str, float]) -> None:
    shown = largest(answers, _ANSWERS)
    places = range(len(shown))
    axes.barh(places, list(shown.values()), color=COLOURS[0], height=0.7)
    labels = [_short(answer, _LABEL) for answer in shown]
    axes.set_yticks(places, labels, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("share of the states")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_title("answers", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
