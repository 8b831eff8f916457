"""Pictures of a report: every control is named where it is."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from steersman.evaluate import plots
from steersman.evaluate.report import Report, summarise
from tests.unit.evaluate.made_up import problems, record, spec

ACCURACY = {"single": 0.5, "better": 0.9, "worse": 0.1, **{f"like {i}": 0.5 for i in range(20)}}


@pytest.fixture(scope="module")
def report() -> Report:
    asked = problems(60)
    rng = np.random.default_rng(0)
    records = [
        record(
            control,
            problem.id,
            right=bool(rng.random() < accuracy) if control in {"better", "worse"} else i % 2 == 0,
            completion_tokens=40 + place,
            thinking_tokens=30 + place,
        )
        for place, (control, accuracy) in enumerate(ACCURACY.items())
        for i, problem in enumerate(asked)
    ]
    return summarise(spec(controls=dict.fromkeys(ACCURACY)), "tiny", asked, records)


def colours(figure: Figure) -> dict[str, str]:
    """Colours of the labels, by their text."""
    return {text.get_text(): to_hex(text.get_color()) for text in figure.axes[0].texts}


def test_every_control_is_labelled_in_the_colour_of_its_verdict(report: Report) -> None:
    figure = plots.accuracy_and_tokens(report)
    found = colours(figure)
    assert set(found) == set(ACCURACY)
    assert found["single"] == to_hex("black")
    assert found["better"] == to_hex("#0072B2")
    assert found["worse"] == to_hex("#D55E00")
    assert found["like 7"] == to_hex("0.4")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        "single", "more accurate", "less accurate", "no clear difference", "Pareto front",
    ]  # fmt: skip


def test_some_controls_over_their_thinking_tokens(report: Report) -> None:
    figure = plots.accuracy_and_tokens(report, ("single", "better"), "thinking")
    assert set(colours(figure)) == {"single", "better"}
    assert figure.axes[0].get_xlabel() == "thinking tokens of a response, mean"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "single",
        "more accurate",
    ]


def test_thinking_tokens_that_nobody_counted_are_an_error(report: Report) -> None:
    single = dataclasses.replace(report.controls["single"], thinking_tokens=None)
    uncounted = dataclasses.replace(report, controls={"single": single}, comparisons={})
    with pytest.raises(ValueError, match="not counted"):
        plots.accuracy_and_tokens(uncounted, cost="thinking")
