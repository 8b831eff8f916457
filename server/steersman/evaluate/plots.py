"""The report as pictures."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter, ScalarFormatter

from steersman.evaluate.inference import Array, Estimate
from steersman.evaluate.labels import annotate
from steersman.evaluate.lengths import Lengths
from steersman.evaluate.records import Record
from steersman.evaluate.report import ControlSummary, Report

Cost = Literal["sampled", "thinking"]

# Okabe and Ito's colours, which the colour-blind can tell apart; line styles tell more apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", ":", "-.")
_VERDICTS = {"better": COLOURS[0], "worse": COLOURS[1], "indistinguishable": "0.4"}
_COSTS = {"sampled": "tokens sampled for a response", "thinking": "thinking tokens of a response"}
DPI = 150
_WIDTH = 7.5
_BINS = 40
# Controls that fit into a low picture.
_FEW = 10
# Costs further apart than this go on a logarithmic axis.
_WIDE = 4.0
# The entropy curve ends where less than this share of the responses is as long.
_LEAST_SHARE = 0.1


def draw(report: Report, records: Iterable[Record], directory: Path) -> list[str]:
    """Draw every plot that the records have the data for.

    Returns:
        The names of the files, in the order of a reader's interest.

    """
    by_control: dict[str, list[Record]] = {name: [] for name in report.controls}
    for record in records:
        by_control[record.control].append(record)
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(report.controls)}
    figures = {"accuracy_and_tokens.png": accuracy_and_tokens(report)}
    if report.lengths is not None:
        figures["accuracy_by_length.png"] = accuracy_by_length(report.baseline, report.lengths)
    thinking = {
        name: tokens
        for name, found in by_control.items()
        if (tokens := [r.thinking_tokens for r in found if r.thinking_tokens is not None])
    }
    if thinking:
        figures["thinking_tokens.png"] = _thinking_tokens(thinking, colours)
    entropies = {
        name: tracks
        for name, found in by_control.items()
        if (tracks := [track for record in found if (track := record.entropies) is not None])
    }
    if entropies:
        figures["entropy.png"] = _entropy(entropies, colours)
    for name, figure in figures.items():
        figure.savefig(directory / name, dpi=DPI)
    return list(figures)


def accuracy_and_tokens(
    report: Report, names: Sequence[str] | None = None, cost: Cost = "sampled"
) -> Figure:
    """Accuracy of controls over the tokens of a response, each point named where it is.

    Args:
        report: A finished run.
        names: Controls to show, the baseline among them; all, and the Pareto front, when None.
        cost: Tokens on the axis: all that were sampled, or those of the returned thinking phase.

    Raises:
        ValueError: The thinking tokens of a control are not counted.

    """
    shown = {name: report.controls[name] for name in names or report.controls}
    tokens = {name: _cost(control, cost) for name, control in shown.items()}
    colours = [_colour(report, name) for name in shown]
    figure, axes = _figure(4.4 if len(shown) > _FEW else 3.4)
    for (name, control), colour in zip(shown.items(), colours, strict=True):
        axes.errorbar(
            tokens[name].value,
            control.accuracy.value,
            xerr=_arms(tokens[name]),
            yerr=_arms(control.accuracy),
            fmt="s" if name == report.baseline else "o",
            color=colour,
            ecolor="0.8",
            elinewidth=0.8,
            markersize=5,
        )
    if names is None and cost == "sampled":
        front = [report.controls[name] for name in report.pareto]
        axes.plot(
            [control.sampled_tokens.value for control in front],
            [control.accuracy.value for control in front],
            linestyle="--",
            linewidth=1,
            color="0.5",
            zorder=0,
        )
    costs = [estimate.value for estimate in tokens.values()]
    if max(costs) > _WIDE * min(costs):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.margins(0.12)
    axes.set_xlabel(f"{_COSTS[cost]}, mean")
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _explain(figure, report, shown, front=names is None and cost == "sampled")
    points = [(tokens[name].value, control.accuracy.value) for name, control in shown.items()]
    annotate(axes, np.array(points), list(shown), colours)
    return figure


def accuracy_curves(curves: Mapping[str, Sequence[tuple[float, Estimate]]]) -> Figure:
    """Accuracy of methods that can spend more or less, over the tokens sampled for a response.

    Args:
        curves: Tokens and accuracy at each size of a method, by its name.

    """
    figure, axes = _figure(4.4)
    for i, (name, points) in enumerate(curves.items()):
        axes.errorbar(
            [tokens for tokens, _ in points],
            [accuracy.value for _, accuracy in points],
            yerr=np.hstack([_arms(accuracy) for _, accuracy in points]),
            fmt="o",
            linestyle=_STYLES[i % len(_STYLES)],
            color=COLOURS[i % len(COLOURS)],
            elinewidth=0.8,
            markersize=4,
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel(f"{_COSTS['sampled']}, mean")
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(frameon=False)
    return figure


def _cost(control: ControlSummary, cost: Cost) -> Estimate:
    if cost == "sampled":
        return control.sampled_tokens
    if control.thinking_tokens is None:
        raise ValueError("thinking tokens are not counted")
    return control.thinking_tokens


def _colour(report: Report, name: str) -> str:
    """Colour of a control by its verdict."""
    return "black" if name == report.baseline else _VERDICTS[report.comparisons[name].verdict]


def _explain(figure: Figure, report: Report, shown: Iterable[str], *, front: bool) -> None:
    """Put a legend of the colours under the axes, and of the Pareto front."""
    found = {one.verdict for name, one in report.comparisons.items() if name in set(shown)}
    kinds = {report.baseline: ("s", "black")}
    words = {
        "better": "more accurate",
        "worse": "less accurate",
        "indistinguishable": "no clear difference",
    }
    kinds |= {
        words[verdict]: ("o", colour) for verdict, colour in _VERDICTS.items() if verdict in found
    }
    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="", markersize=5, label=label)
        for label, (marker, colour) in kinds.items()
    ]
    if front:
        handles.append(
            Line2D([], [], linestyle="--", linewidth=1, color="0.5", label="Pareto front")
        )
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8
    )


def accuracy_by_length(baseline: str, lengths: Lengths) -> Figure:
    """Accuracy in each tenth of the baseline's responses, by length."""
    figure, axes = _figure(3.8)
    places = range(1, len(lengths.deciles) + 1)
    accuracy = [decile.accuracy for decile in lengths.deciles]
    axes.errorbar(
        places,
        [estimate.value for estimate in accuracy],
        yerr=np.hstack([_arms(estimate) for estimate in accuracy]),
        fmt="o-",
        color=COLOURS[0],
        capsize=3,
        label="each tenth",
    )
    median = lengths.median.accuracy
    axes.axhline(median.value, color=COLOURS[1], linewidth=1, label="median tenth")
    axes.axhspan(median.low, median.high, color=COLOURS[1], alpha=0.15, linewidth=0)
    axes.set_xticks(
        places,
        [
            f"{decile.shortest}–{decile.longest}"
            if decile.shortest < decile.longest
            else str(decile.shortest)
            for decile in lengths.deciles
        ],
        rotation=30,
    )
    axes.set_xlabel(f"{lengths.measure} tokens, tenths of the responses of {baseline}")
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False)
    return figure


def _thinking_tokens(thinking: Mapping[str, Sequence[int]], colours: Mapping[str, str]) -> Figure:
    figure = Figure(figsize=(_WIDTH, 0.8 + 1.1 * len(thinking)), layout="constrained")
    rows = figure.subplots(len(thinking), sharex=True, sharey=True, squeeze=False)[:, 0]
    longest = max(max(tokens) for tokens in thinking.values())
    edges = np.linspace(0, longest + 1, min(_BINS, longest + 1) + 1)
    for axes, (name, tokens) in zip(rows, thinking.items(), strict=True):
        weights = np.full(len(tokens), 1 / len(tokens))
        axes.hist(tokens, bins=edges, weights=weights, color=colours[name])
        axes.axvline(np.median(tokens), color="black", linewidth=1, linestyle=":")
        axes.text(
            0.985,
            0.9,
            f"{name}: median {np.median(tokens):.0f}",
            transform=axes.transAxes,
            horizontalalignment="right",
            verticalalignment="top",
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlabel("thinking tokens of the returned response (dotted: median)")
    figure.supylabel("share of responses", fontsize="medium")
    return figure


def _entropy(
    entropies: Mapping[str, Sequence[Sequence[float]]], colours: Mapping[str, str]
) -> Figure:
    figure, axes = _figure(3.8)
    for i, (name, tracks) in enumerate(entropies.items()):
        axes.plot(
            _mean_by_position(tracks),
            color=colours[name],
            linestyle=_STYLES[i // len(COLOURS) % len(_STYLES)],
            linewidth=1,
            label=name,
        )
    axes.set_xlabel("token of the response")
    axes.set_ylabel("entropy, mean, in nats")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:.0f}"))
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _mean_by_position(tracks: Sequence[Sequence[float]]) -> Array:
    """Mean over the tracks that are long enough: [positions]."""
    lengths = np.sort([len(track) for track in tracks])[::-1]
    longest = int(lengths[int(np.ceil(_LEAST_SHARE * len(lengths))) - 1])
    sums, counts = np.zeros(longest), np.zeros(longest)
    for track in tracks:
        kept = track[:longest]
        sums[: len(kept)] += kept
        counts[: len(kept)] += 1
    return sums / counts


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _arms(estimate: Estimate) -> Array:
    """Lengths of an error bar: [2, 1]."""
    return np.array([[estimate.value - estimate.low], [estimate.high - estimate.value]]).clip(0)
