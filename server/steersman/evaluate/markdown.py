"""The report as a page of Markdown that says in words what was found."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from steersman.evaluate.inference import Estimate
from steersman.evaluate.lengths import FEWEST_RESPONSES, Lengths
from steersman.evaluate.report import Comparison, ControlSummary, Report

Format = Callable[[float], str]

_SMALLEST_P = 1e-4
_VERDICTS = {
    "better": "is significantly better than",
    "worse": "is significantly worse than",
    "indistinguishable": "is indistinguishable in accuracy from",
}


def render(report: Report, plots: Sequence[str]) -> str:
    """The page.

    Args:
        report: The report.
        plots: Paths of the plots to show, from the page.

    """
    questions = report.problems * report.samples
    lines = [
        f"# {report.name}",
        "",
        f"{report.problems} problems, {report.samples} sample{'s' * (report.samples > 1)} of each "
        f"under each of {len(report.controls)} controls: {questions} paired questions. "
        f"Model `{report.model}`, temperature {report.temperature:g}, at most "
        f"{report.max_tokens} tokens, {report.concurrency} requests at a time. Brackets are 95 % "
        "intervals.",
        "",
        "## What was found",
        "",
        *_findings(report),
        "",
        "## Each control",
        "",
        *_controls(report),
        "",
        "Sampled tokens are all that a request cost, cancelled branches included; returned tokens "
        "are those of its answer, thinking included.",
        "",
        *_against_baseline(report),
        "## By length",
        "",
        *_by_length(report),
        "",
        "## By group",
        "",
        *_groups(report),
        "",
    ]
    for plot in plots:
        lines += [f"![{Path(plot).stem.replace('_', ' ')}]({plot})", ""]
    return "\n".join(lines)


def compare(report: Report, names: Sequence[str]) -> Iterator[str]:
    """Lines of a table of the baseline and some controls against it, in few columns."""
    baseline = report.controls[report.baseline]
    header = ("control", "accuracy", "points", "thinking tokens", "sampled tokens", "median time")
    first = (report.baseline, _percent(baseline.accuracy.value), "", *["1"] * 3)
    yield from table(header, [first, *(tuple(_compared(report, name)) for name in names)])


def _compared(report: Report, name: str) -> Iterator[str]:
    found = report.comparisons[name]
    mark = "" if found.verdict == "indistinguishable" else "**"
    yield name
    yield _percent(report.controls[name].accuracy.value)
    yield f"{mark}{shown(found.accuracy, points)}{mark}"
    yield _optional(found.thinking_tokens, times)
    yield shown(found.sampled_tokens, times)
    yield shown(found.seconds_p50, times)


def conclusion(report: Report) -> list[str]:
    """A sentence on each control but the baseline."""
    return [_sentence(name, found, report.baseline) for name, found in report.comparisons.items()]


def _findings(report: Report) -> Iterator[str]:
    baseline = report.controls[report.baseline]
    yield (
        f"- **{report.baseline}**, the baseline, is right in "
        f"{shown(baseline.accuracy, _percent)} and samples "
        f"{shown(baseline.sampled_tokens, _tokens)} tokens a request."
    )
    for name, found in report.comparisons.items():
        yield f"- {_sentence(f'**{name}**', found, report.baseline)}"
    front = ", ".join(report.pareto)
    yield f"- On the Pareto front (no other is more accurate for as few sampled tokens): {front}."
    if report.lengths is not None:
        yield f"- {_length_sentence(report.lengths)}"


def _sentence(name: str, found: Comparison, baseline: str) -> str:
    thinking = found.thinking_tokens
    thinks = f"thinks {shown(thinking, times)} as long, " if thinking is not None else ""
    return (
        f"{name} {_VERDICTS[found.verdict]} {baseline}: "
        f"{shown(found.accuracy, points)} points, adjusted p {_relation(found.p_adjusted)}. "
        f"It {thinks}samples {shown(found.sampled_tokens, times)} the tokens and takes "
        f"{shown(found.seconds_p50, times)} the median time."
    )


def _controls(report: Report) -> Iterator[str]:
    yield from table(
        ("control", "accuracy", "thinking tokens", "sampled tokens", "returned tokens",
         "p50 s", "p95 s", "cut off"),
        ((name, *_control_cells(control)) for name, control in report.controls.items()),
    )  # fmt: skip


def _control_cells(control: ControlSummary) -> Iterator[str]:
    thinking = control.thinking_tokens
    yield shown(control.accuracy, _percent)
    yield "not counted" if thinking is None else shown(thinking, _tokens)
    yield shown(control.sampled_tokens, _tokens)
    yield shown(control.returned_tokens, _tokens)
    yield shown(control.seconds_p50, _seconds)
    yield shown(control.seconds_p95, _seconds)
    yield _percent(control.cut_off)


def _against_baseline(report: Report) -> Iterator[str]:
    if not report.comparisons:
        return
    yield f"## Against {report.baseline}"
    yield ""
    yield from table(
        ("control", "accuracy, points", "only it right", "only the baseline right", "p",
         "p, adjusted", "its shortest tenth, points", "thinking tokens", "sampled tokens",
         "median time"),
        ((name, *_comparison_cells(found)) for name, found in report.comparisons.items()),
    )  # fmt: skip
    yield ""
    yield (
        "Paired by problem and sample. p is McNemar's exact test; adjusted for the number of "
        "comparisons by Holm's method. A control is called better or worse when the adjusted p is "
        "below 0.05 and the interval excludes zero. The shortest tenth of each control by its own "
        "lengths is compared with the shortest tenth of the baseline."
    )
    yield ""


def _comparison_cells(found: Comparison) -> Iterator[str]:
    yield shown(found.accuracy, points)
    yield str(found.better)
    yield str(found.worse)
    yield _p(found.p_value)
    yield _p(found.p_adjusted)
    yield _optional(found.shortest_tenth, points)
    yield _optional(found.thinking_tokens, times)
    yield shown(found.sampled_tokens, times)
    yield shown(found.seconds_p50, times)


def _by_length(report: Report) -> Iterator[str]:
    lengths = report.lengths
    if lengths is None:
        yield f"Fewer than {FEWEST_RESPONSES} responses under {report.baseline}: too few to say."
        return
    yield _length_sentence(lengths)
    yield ""
    names = [str(i) for i in range(1, len(lengths.deciles) + 1)]
    rows = [
        (name, _span(decile.shortest, decile.longest), shown(decile.accuracy, _percent))
        for name, decile in zip([*names, "median"], [*lengths.deciles, lengths.median], strict=True)
    ]
    yield from table((f"tenth of {report.baseline}", f"{lengths.measure} tokens", "accuracy"), rows)


def _length_sentence(lengths: Lengths) -> str:
    gap = lengths.shortest_minus_median
    if gap.high < 0:
        verdict = "less often right than"
    elif gap.low > 0:
        verdict = "more often right than"
    else:
        verdict = "not distinguishably better or worse than"
    shortest = lengths.deciles[0]
    said = (
        f"The shortest tenth of the baseline ({_span(shortest.shortest, shortest.longest)} "
        f"{lengths.measure} tokens) is {verdict} its median tenth: "
        f"{shown(shortest.accuracy, _percent)} against "
        f"{shown(lengths.median.accuracy, _percent)}, {shown(gap, points)} points."
    )
    alone = lengths.shortest_of_problem
    if alone is None:
        return said
    return (
        f"{said} Taking the shortest sample of each problem instead of any changes accuracy by "
        f"{shown(alone, points)} points."
    )


def _groups(report: Report) -> Iterator[str]:
    names = report.controls[report.baseline].groups
    yield from table(
        ("group", *report.controls),
        (
            (group, *(_percent(control.groups[group]) for control in report.controls.values()))
            for group in names
        ),
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table; all columns but the first are aligned right."""
    yield _row(header)
    yield _row(["---", *["---:"] * (len(header) - 1)])
    for row in rows:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def shown(estimate: Estimate, form: Format) -> str:
    """An estimate with its interval in brackets."""
    return f"{form(estimate.value)} [{form(estimate.low)}, {form(estimate.high)}]"


def _optional(estimate: Estimate | None, form: Format) -> str:
    return "–" if estimate is None else shown(estimate, form)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.2f}×"


def _tokens(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _p(value: float) -> str:
    return (
        f"< {_SMALLEST_P:.4f}"
        if value < _SMALLEST_P
        else f"{value:.4f}"
        if value < 0.1
        else f"{value:.2f}"
    )


def _relation(value: float) -> str:
    return _p(value) if value < _SMALLEST_P else f"= {_p(value)}"


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
