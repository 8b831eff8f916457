"""A sweep of strengths as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from steersman.directions.calibrate import Point
from steersman.evaluate.inference import Estimate
from steersman.evaluate.plots import COLOURS, DPI

_SIZE = (7.5, 6.0)
_UNSTEERED = {"thinking": 1.0, "accuracy": 0.0}


def draw(found: Sequence[Point], path: Path) -> None:
    """Draw thinking tokens and accuracy against strength, a line for each set of layers."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    lines = dict.fromkeys(point.setting.layers for point in found)
    for number, layers in enumerate(lines):
        line = sorted(
            (point for point in found if point.setting.layers == layers),
            key=lambda point: point.setting.strength,
        )
        colour = COLOURS[number % len(COLOURS)]
        for axes, quantity in ((above, "thinking"), (below, "accuracy")):
            _line(axes, line, quantity, colour, ", ".join(map(str, layers)))
    above.set_ylabel("thinking tokens, of unsteered")
    above.yaxis.set_major_formatter(PercentFormatter(1))
    below.set_ylabel("accuracy, difference")
    below.yaxis.set_major_formatter(PercentFormatter(1))
    below.set_xlabel("strength (bars: 95 % intervals)")
    above.legend(title="layers", frameon=False)
    figure.savefig(path, dpi=DPI)


def _line(axes: Axes, line: Sequence[Point], quantity: str, colour: str, label: str) -> None:
    known = [(point.setting.strength, getattr(point, quantity)) for point in line]
    unsteered = _UNSTEERED[quantity]
    known = sorted([*known, (0.0, Estimate(unsteered, unsteered, unsteered))])
    strengths = [strength for strength, _ in known]
    values = [estimate.value for _, estimate in known]
    bars = [
        [estimate.value - estimate.low for _, estimate in known],
        [estimate.high - estimate.value for _, estimate in known],
    ]
    axes.errorbar(strengths, values, yerr=bars, color=colour, label=label, marker="o", capsize=2)
    axes.axhline(unsteered, color="grey", linewidth=0.8)
