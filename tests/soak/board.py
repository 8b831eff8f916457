"""The dashboard's panels, drawn by matplotlib from what a Prometheus scraped."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import PercentFormatter

from steersman.evaluate.plots import COLOURS, DPI
from tests import dashboard
from tests.dashboard import Panel
from tests.prometheus import Prometheus

Series = Sequence[tuple[Mapping[str, str], Sequence[tuple[float, float]]]]

_COLUMNS = 3
_WIDTH, _HEIGHT, _HEADING = 5.0, 2.6, 0.28
_STEPS = 180
_RATE = "1m"
_MOST_NAMED = 8
_MINUTE = 60.0
_UNITS = {"s": "seconds", "ops": "a second", "cps": "a second", "reqps": "a second"}


def draw(prometheus: Prometheus, start: float, end: float, path: Path) -> list[str]:
    """Draw every panel as it was between two times of the clock, and write the picture.

    Args:
        prometheus: What has scraped the server in between.
        start: In seconds.
        end: In seconds.
        path: File of the picture.

    Returns:
        Titles of the panels of which no query has data.

    """
    rows = [(row, list(of)) for row, of in groupby(dashboard.panels(), lambda panel: panel.row)]
    heights = [height for _, of in rows for height in (_HEADING, *[_HEIGHT] * _lines(of))]
    figure = Figure(figsize=(_COLUMNS * _WIDTH, sum(heights)), layout="constrained")
    grid = GridSpec(len(heights), _COLUMNS, figure, height_ratios=heights)
    empty, line = [], 0
    for row, of in rows:
        heading = figure.add_subplot(grid[line, :])
        heading.axis("off")
        heading.text(0, 0.5, row, fontsize=13, weight="bold", va="center")
        for number, panel in enumerate(of):
            place = grid[line + 1 + number // _COLUMNS, number % _COLUMNS]
            found = _asked(prometheus, panel, start, end)
            if not any(found.values()):
                empty.append(panel.title)
            _panel(figure.add_subplot(place), panel, found, start, end)
        line += 1 + _lines(of)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI * 0.6)
    return empty


def _lines(panels: Sequence[Panel]) -> int:
    return -(-len(panels) // _COLUMNS)


def _asked(prometheus: Prometheus, panel: Panel, start: float, end: float) -> Mapping[str, Series]:
    step = (end - start) / _STEPS
    return {
        legend: prometheus.over(dashboard.filled(query, _RATE), start, end, step)
        for legend, query in panel.queries.items()
    }


def _panel(axes: Axes, panel: Panel, found: Mapping[str, Series], start: float, end: float) -> None:
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    lines = {
        named(legend, labels): values
        for legend, series in found.items()
        for labels, values in series
    }
    if panel.kind == "stat":
        latest = "  ".join(f"{values[-1][1]:g}" for values in lines.values())
        axes.axis("off")
        axes.text(0.5, 0.5, latest or "no data", fontsize=26, ha="center", va="center")
        return
    times = {name: [(time - start) / _MINUTE for time, _ in of] for name, of in lines.items()}
    heights = {name: [value for _, value in of] for name, of in lines.items()}
    if panel.stacked:
        heights = stacked(lines)
    for number, name in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(times[name], heights[name], color=colour, lw=1, label=name or "-")
    axes.set_xlim(0, (end - start) / _MINUTE)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    if panel.unit == "percentunit":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel(_UNITS.get(panel.unit, ""), fontsize=7)
    if not lines:
        axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes)
    elif len(lines) <= _MOST_NAMED:
        axes.legend(fontsize=6, frameon=False, loc="upper left", ncols=2)
    else:
        axes.text(0.02, 0.9, f"{len(lines)} lines", fontsize=6, transform=axes.transAxes)


def stacked(
    lines: Mapping[str, Sequence[tuple[float, float]]],
) -> dict[str, list[float]]:
    """The same lines, each on top of those before it."""
    below: dict[float, float] = {}
    found: dict[str, list[float]] = {}
    for name, values in lines.items():
        found[name] = []
        for time, value in values:
            below[time] = below.get(time, 0.0) + (0.0 if math.isnan(value) else value)
            found[name].append(below[time])
    return found


def named(legend: str, labels: Mapping[str, str]) -> str:
    """A legend's template, filled in as Grafana does."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)
