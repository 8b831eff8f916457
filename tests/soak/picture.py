"""A run as a picture: memory of each process, latencies and requests over the minutes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steersman.evaluate.plots import COLOURS, DPI

_SIZE = (8.0, 7.5)
_MINUTE = 60.0


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw a result of `report.result`, and write it in the format of the path's suffix."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    memory, latency, rate = figure.subplots(3, 1, sharex=True)
    _memory(memory, result)
    _latency(latency, result["latency"])
    _rate(rate, result["requests_by_minute"])
    for axes in (memory, latency, rate):
        axes.axvspan(0, result["warm_up_seconds"] / _MINUTE, color="0.93", zorder=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0, result["seconds"] / _MINUTE)
    for killed in result["kills"]:
        rate.axvline(killed / _MINUTE, color="0.75", linewidth=0.6, zorder=0.5)
    rate.set_xlabel("minutes (grey: warm-up, not judged)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def _memory(axes: Axes, result: Mapping[str, Any]) -> None:
    """Each process against its own level, as they differ by gigabytes."""
    for number, (name, one) in enumerate(result["memory"].items()):
        colour, level = COLOURS[number % len(COLOURS)], one["mib"]
        label = f"{name}, {level:.0f} MiB: {one['mib_an_hour']:+.1f} an hour"
        times = [time / _MINUTE for time, _ in one["series"]]
        axes.plot(
            times, [mib - level for _, mib in one["series"]], color=colour, label=label, lw=1.2
        )
        ends = (result["warm_up_seconds"], result["seconds"])
        line = [one["mib_an_hour"] / 3600 * (end - one["middle_seconds"]) for end in ends]
        axes.plot([end / _MINUTE for end in ends], line, color=colour, ls="--", lw=1.0)
    shown = [
        mib - one["mib"]
        for one in result["memory"].values()
        for time, mib in one["series"]
        if time >= result["warm_up_seconds"]
    ]
    if shown:
        room = max(8.0, 1.5 * max(map(abs, shown)))
        axes.set_ylim(-room, room)
        axes.legend(frameon=False, fontsize=8)
    axes.set_ylabel("MiB over its mean")


def _latency(axes: Axes, latency: Mapping[str, Any] | None) -> None:
    if latency is not None:
        times = [time / _MINUTE for time, _ in latency["windows"]]
        axes.plot(times, [p99 for _, p99 in latency["windows"]], "o-", color=COLOURS[1], ms=4)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("p99 over the median\nof the same kind")


def _rate(axes: Axes, counts: Sequence[int]) -> None:
    axes.step(range(len(counts)), counts, where="post", color=COLOURS[2])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("requests a minute\n(grey lines: clients killed)")
