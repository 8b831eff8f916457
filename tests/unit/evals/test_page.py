"""`docs/evidence.md`: made from the committed reports, with every number taken from them."""

import re

import pytest
from evals.evidence import branching as branches
from evals.evidence import page
from evals.evidence.branching import Branching
from evals.evidence.curves import HEADING, Curves
from evals.evidence.questions import QUESTIONS, Question

from steersman.evaluate.report import Report
from tests.unit.evals.test_apart import made_up_branching
from tests.unit.evals.test_curves import made_up


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    return page.read()


@pytest.fixture(scope="module")
def curves() -> Curves | None:
    return page.read_curves()


@pytest.fixture(scope="module")
def branching() -> Branching | None:
    return page.read_branching()


def test_the_committed_page_is_that_of_the_committed_reports(
    reports: dict[str, Report], curves: Curves | None, branching: Branching | None
) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(reports, curves, branching)


def test_a_question_has_one_table_one_picture_and_its_numbers(reports: dict[str, Report]) -> None:
    sections = page.page(reports, None, None).split("\n## ")[1:-1]
    assert [section.split("\n")[0] for section in sections] == [one.heading for one in QUESTIONS]
    for section, question in zip(sections, QUESTIONS, strict=True):
        assert section.count("| --- |") == 1
        assert section.count("![") == 1
        assert "{" not in section
        rows = [line.split(" | ")[0].removeprefix("| ") for line in section.split("\n")]
        assert [row for row in rows if row in reports[question.run].controls] == [
            reports[question.run].baseline,
            *question.controls,
        ]


def test_chains_have_a_section_once_they_have_been_compared(reports: dict[str, Report]) -> None:
    sections = page.page(reports, made_up(), None).split("\n## ")[1:-1]
    assert len(sections) == len(QUESTIONS) + 1
    section = sections[-1]
    assert section.startswith(HEADING)
    assert section.count("| --- |") == 1
    assert "](../evals/evidence/pictures/align.png)" in section
    assert (page.PAGE.parent / "../evals/evidence/noisy.py").is_file()


def test_ways_to_branch_have_a_section_once_they_have_been_compared(
    reports: dict[str, Report],
) -> None:
    sections = page.page(reports, None, made_up_branching()).split("\n## ")[1:-1]
    assert len(sections) == len(QUESTIONS) + 1
    section = sections[-1]
    assert section.startswith(branches.HEADING)
    assert "](../evals/evidence/pictures/apart.png)" in section
    assert (page.PAGE.parent / "../evals/evidence/tree.py").is_file()


def test_what_the_page_links_to_is_there(
    reports: dict[str, Report], curves: Curves | None, branching: Branching | None
) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.page(reports, curves, branching))
    assert len(links) > 2 * len(QUESTIONS)
    assert [link for link in links if not (page.PAGE.parent / link).is_file()] == []


def test_a_number_that_a_run_does_not_have_is_an_error(reports: dict[str, Report]) -> None:
    run = reports["first_finish"]
    asked = Question("name", "Heading?", "{thinking:first-finish 2}", "first_finish", ())
    assert run.comparisons["first-finish 2"].thinking_tokens is None
    with pytest.raises(ValueError, match="has no thinking"):
        page._section(asked, run)


def test_the_readme_quotes_the_report(reports: dict[str, Report]) -> None:
    run = reports["length_control"]
    concise = run.comparisons["concise"]
    assert concise.thinking_tokens is not None
    thinking = concise.thinking_tokens
    fewer = [100 - 100 * one for one in (thinking.value, thinking.high, thinking.low)]
    quoted = (
        f"On {run.problems * run.samples:,} paired questions it takes "
        f"**{fewer[0]:.0f} % fewer thinking tokens [{fewer[1]:.0f}, {fewer[2]:.0f}] and is right "
        f"{100 * concise.accuracy.value:.1f} points more often "
        f"[{100 * concise.accuracy.low:.1f}, {100 * concise.accuracy.high:.1f}]**"
    )
    readme = (page.PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    assert quoted in readme
