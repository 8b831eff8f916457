"""Makes `docs/evidence.md` and its pictures from the runs: `python -m evals.evidence.page`."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter

from evals.evidence.branching import Branching, branching_figure, branching_section
from evals.evidence.curves import Curves, curves_figure, curves_section
from evals.evidence.questions import QUESTIONS, Question
from steersman.evaluate import markdown, plots
from steersman.evaluate.report import Report

RESULTS = Path(__file__).with_name("results")
PICTURES = Path(__file__).with_name("pictures")
CURVES = RESULTS / "align" / "curves.json"
CURVES_PICTURE = PICTURES / "align.png"
BRANCHING = RESULTS / "apart" / "apart.json"
BRANCHING_PICTURE = PICTURES / "apart.png"
PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"

INTRODUCTION = """\
# Evidence

The effect of each control on the built-in `reasoner`: a model of 1.6 M parameters, trained for this
purpose, whose short thoughts are hasty and whose long ones sometimes wander. It shows *that* a
control works and *when* it harms. Its effect on your model is for
[an evaluation of your own](evaluation.md) to measure. Times are of a shared machine with two cores:
the controls take turns, so trust their ratios and not the seconds.

Numbers are against `single`, one plain sample, on the same problems and seeds. Brackets are 95 %
intervals, resampled by problem. **Bold** differences are significant: McNemar's exact test,
adjusted by Holm's method for all comparisons of the run.
"""

_NUMBER = re.compile(r"\{(points|thinking|sampled|time):([^}]+)\}")


def page(reports: Mapping[str, Report], curves: Curves | None, branching: Branching | None) -> str:
    """The page: a section for each question, then the runs behind them.

    Args:
        reports: Reports of the runs, by name.
        curves: Chains against votes; None where they have not been compared.
        branching: Ways to branch against each other; likewise.

    """
    sections = [_section(question, reports[question.run]) for question in QUESTIONS]
    if curves is not None:
        sections.append(curves_section(curves, _from_page(CURVES_PICTURE)))
    if branching is not None:
        sections.append(branching_section(branching, _from_page(BRANCHING_PICTURE)))
    return "\n".join((INTRODUCTION, *sections, "\n".join(_runs(reports)), ""))


def draw(reports: Mapping[str, Report], curves: Curves | None, branching: Branching | None) -> None:
    """Draw the picture of each section, and those of each run that need no responses."""
    PICTURES.mkdir(exist_ok=True)
    for question in QUESTIONS:
        report = reports[question.run]
        shown = (report.baseline, *question.controls)
        figure = plots.accuracy_and_tokens(report, shown, question.cost)
        figure.savefig(PICTURES / f"{question.name}.png", dpi=plots.DPI)
    if curves is not None:
        curves_figure(curves).savefig(CURVES_PICTURE, dpi=plots.DPI)
    if branching is not None:
        branching_figure(branching).savefig(BRANCHING_PICTURE, dpi=plots.DPI)
    for name, report in reports.items():
        figure = plots.accuracy_and_tokens(report)
        figure.savefig(RESULTS / name / "accuracy_and_tokens.png", dpi=plots.DPI)


def _section(question: Question, report: Report) -> str:
    answer = _NUMBER.sub(lambda found: _number(report, found[1], found[2]), question.answer)
    table = markdown.compare(report, question.controls)
    picture = f"![{question.heading}]({_from_page(PICTURES / f'{question.name}.png')})"
    return "\n".join((f"## {question.heading}", "", answer, "", *table, "", picture, ""))


def _number(report: Report, kind: str, control: str) -> str:
    comparison = report.comparisons[control]
    match kind:
        case "points":
            return markdown.shown(comparison.accuracy, markdown.points)
        case "thinking" if comparison.thinking_tokens is not None:
            return markdown.shown(comparison.thinking_tokens, markdown.times)
        case "sampled":
            return markdown.shown(comparison.sampled_tokens, markdown.times)
        case "time":
            return markdown.shown(comparison.seconds_p50, markdown.times)
        case _:
            raise ValueError(f"{control} has no {kind} against {report.baseline}")


def _runs(reports: Mapping[str, Report]) -> Iterator[str]:
    yield "## The runs"
    yield ""
    yield (
        "`make evidence` runs them again, which takes hours, and makes this page of their reports."
    )
    yield ""
    yield from markdown.table(
        ("full report", "definition", "problems", "samples", "controls", "requests at a time"),
        (_run(name, report) for name, report in reports.items()),
    )


def _run(name: str, report: Report) -> tuple[str, ...]:
    definition = Path(__file__).with_name(f"{name}.yaml")
    return (
        f"[{report.name}]({_from_page(RESULTS / name / 'report.md')})",
        f"[{definition.name}]({_from_page(definition)})",
        str(report.problems),
        str(report.samples),
        str(len(report.controls)),
        str(report.concurrency),
    )


def _from_page(path: Path) -> str:
    return Path(os.path.relpath(path, PAGE.parent)).as_posix()


def read() -> dict[str, Report]:
    """Reports of the runs, by the name of their directory."""
    adapter = TypeAdapter(Report)
    return {
        file.parent.name: adapter.validate_json(file.read_bytes())
        for file in sorted(RESULTS.glob("*/report.json"))
    }


def read_curves() -> Curves | None:
    """Chains against votes, if they have been compared."""
    return TypeAdapter(Curves).validate_json(CURVES.read_bytes()) if CURVES.exists() else None


def read_branching() -> Branching | None:
    """Ways to branch against each other, if they have been compared."""
    if not BRANCHING.exists():
        return None
    return TypeAdapter(Branching).validate_json(BRANCHING.read_bytes())


def main() -> None:
    """Write the page and its pictures."""
    found = read(), read_curves(), read_branching()
    draw(*found)
    PAGE.write_text(page(*found), encoding="utf-8")


if __name__ == "__main__":
    main()
