"""The section on chains and votes: every number from the curves."""

import json
from dataclasses import asdict

from evals.evidence.curves import HEADING, Curves, Point, SizedPair, curves_figure, curves_section
from pydantic import TypeAdapter

from steersman.evaluate.inference import Estimate


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.02, value + 0.02)


def point(samples: int, accuracy: float, steps: int | None = None) -> Point:
    return Point(samples, steps, estimate(accuracy), estimate(50.0 * samples))


def made_up() -> Curves:
    """Curves of three methods, of up to 4 samples."""
    return Curves(
        500,
        {
            "majority": (point(1, 0.6), point(2, 0.61), point(4, 0.7)),
            "best of n": (point(1, 0.6), point(2, 0.8), point(4, 0.74)),
            "reward chain": (point(2, 0.7, 2), point(4, 0.823, 7)),
        },
        (
            SizedPair("reward chain", "best of n", estimate(-0.1), 10, 60, 1e-6, 2),
            SizedPair("reward chain", "best of n", estimate(0.083), 60, 10, 1e-6, 4),
            SizedPair("reward chain", "majority", estimate(0.123), 60, 10, 0.3, 4),
        ),
        {"reward chain": 1.0},
        1.0,
    )


def test_a_section_has_all_sizes_and_the_pairs_of_the_largest() -> None:
    lines = curves_section(made_up(), "align.png").split("\n")
    assert lines[0] == f"## {HEADING}"
    assert "500 problems." in lines[2]
    assert [line for line in lines if line.startswith("- ")] == [
        "- reward chain against best of n: **+8.3 [+6.3, +10.3]** points",
        "- reward chain against majority: +12.3 [+10.3, +14.3] points",
        "- best of n is at its best at 2: 80.0 %, 74.0 % at 4",
    ]
    assert [line for line in lines if line.startswith("|")] == [
        "| at the tokens of n samples | n = 1 | n = 2 | n = 4 |",
        "| --- | ---: | ---: | ---: |",
        "| majority | 60.0 % | 61.0 % | 70.0 % |",
        "| best of n | 60.0 % | 80.0 % | 74.0 % |",
        "| reward chain |  | 70.0 % (2) | 82.3 % (7) |",
    ]


def test_curves_survive_their_file() -> None:
    written = json.dumps(asdict(made_up()))
    assert TypeAdapter(Curves).validate_json(written) == made_up()


def test_the_picture_has_a_line_for_each_method() -> None:
    (axes,) = curves_figure(made_up()).axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(made_up().methods)
