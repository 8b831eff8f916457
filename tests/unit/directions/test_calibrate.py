"""Recommendations of a sweep of strengths, and its refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from steersman.cli import app
from steersman.directions import calibration_plots
from steersman.directions.calibrate import Goal, Point, Setting, Sweep, calibrated, recommend
from steersman.directions.error import DirectionError
from steersman.evaluate.inference import Estimate
from steersman.vectors import file
from steersman.vectors.vector import Vector, VectorMetadata

VECTOR = Vector(
    {i: np.full(4, i + 1, np.float32) for i in range(3)},
    VectorMetadata(site="layer", method="by hand"),
)


def point(
    strength: float,
    thinking: float,
    accuracy: float,
    *,
    layers: tuple[int, ...] = (1,),
    wide: float = 0.01,
) -> Point:
    return Point(
        Setting(layers, strength),
        Estimate(thinking, thinking - 0.05, thinking + 0.05),
        Estimate(accuracy, accuracy - wide, accuracy + wide),
    )


def test_the_most_effective_that_keeps_accuracy_is_recommended() -> None:
    found = [
        point(-0.5, 1.3, 0.0),
        point(0.5, 0.8, 0.0),
        point(1.0, 0.6, -0.01),
        point(2.0, 0.3, -0.1),
        point(1.0, 0.7, 0.0, layers=(0,)),
    ]

    shorter = recommend(found, "shorter", 0.03, problems=500)
    longer = recommend(found, "longer", 0.03, problems=500)

    assert shorter.best.setting == Setting((1,), 1.0)
    assert shorter.bounds == (-0.5, 1.0)
    assert shorter.warnings == ()
    assert longer.best.setting == Setting((1,), -0.5)
    assert longer.warnings == ("-0.5 is the strongest that was tried: a stronger one may do more",)


def test_a_wide_interval_is_no_proof() -> None:
    found = [point(0.5, 0.8, 0.0), point(1.0, 0.6, 0.0, wide=0.05)]
    assert recommend(found, "shorter", 0.03, problems=500).best.setting.strength == 0.5


def test_the_range_ends_where_accuracy_is_lost() -> None:
    found = [
        point(0.25, 0.9, 0.0),
        point(0.5, 0.8, -0.2),
        point(1.0, 0.5, 0.0),
        point(-1.0, 1.2, -0.2),
    ]
    recommendation = recommend(found, "shorter", 0.03, problems=500)
    assert recommendation.best.setting.strength == 1.0
    assert recommendation.bounds == (0.0, 0.25)


def test_warnings() -> None:
    turning = [point(0.5, 0.6, 0.0), point(1.0, 0.8, 0.0), point(2.0, 0.5, -0.2)]
    recommendation = recommend(turning, "shorter", 0.03, problems=150)
    assert recommendation.best.setting.strength == 0.5
    assert recommendation.warnings == (
        "thinking is not monotone in strength: 0.60 of its length at 0.5, 0.80 at 1",
        "only 150 problems were asked: the intervals are wide",
    )
    # A turn within the intervals is none.
    noise = [point(0.5, 0.6, 0.0), point(1.0, 0.65, 0.0), point(2.0, 0.5, -0.2)]
    assert recommend(noise, "shorter", 0.03, problems=500).warnings == ()


@pytest.mark.parametrize(
    ("found", "goal", "message"),
    [
        ([point(1, 0.98, 0.0)], "shorter", "no setting made thinking shorter, beyond the interval"),
        ([point(1, 0.5, -0.1)], "longer", "no setting made thinking longer"),
        (
            [point(1, 0.5, -0.2), point(0.5, 0.8, -0.05)],
            "shorter",
            r"the nearest is layers 1 at 0.5: 0.80 of the thinking tokens, accuracy -0.050 "
            r"\[-0.060, -0.040\]",
        ),
    ],
)
def test_nothing_to_recommend(found: list[Point], goal: Goal, message: str) -> None:
    with pytest.raises(DirectionError, match=message):
        recommend(found, goal, 0.03, problems=500)


def test_the_setting_becomes_the_default_and_says_where_it_is_from() -> None:
    found = [point(0.5, 0.8, 0.0), point(1.0, 0.6, -0.2)]
    sweep = Sweep(((1,),), (0.5, 1.0), "boundary", "thinking")
    recommendation = recommend(found, "shorter", 0.03, problems=500)

    made = calibrated(VECTOR, recommendation, found, sweep, {"problems": 500})

    metadata = file.read(file.write(made)).metadata
    assert (metadata.layers, metadata.strength, metadata.strength_range) == ((1,), 0.5, (0.0, 0.5))
    assert (metadata.at, metadata.phase) == ("boundary", "thinking")
    assert metadata.calibration is not None
    assert metadata.calibration["problems"] == 500
    assert metadata.calibration["points"][1] == {
        "layers": [1],
        "strength": 1.0,
        "thinking": [0.6, 0.55, 0.65],
        "accuracy": [-0.2, -0.21, -0.19],
    }
    assert made.digest != VECTOR.digest


def test_the_picture(tmp_path: Path) -> None:
    found = [point(s, 1 - s / 3, 0.0, layers=layers) for s in (-1, 1) for layers in ((0,), (1, 2))]
    calibration_plots.draw(found, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strengths", "1,0"], "--strengths: strengths must differ from 0"),
        (["--strengths", "1,1"], "--strengths: strengths must differ from 0 and from each other"),
        (["--strengths", "1,x"], "--strengths: '1,x': give numbers with commas between"),
        (["--strengths", "inf"], "--strengths: 'inf': give numbers with commas between"),
        (["--layers", "7"], "--layers: the vector has no layer 7"),
        (["--layers", "1-"], "--layers: '1-': give layers as 3, 1,2 or 0-3"),
        (["--layers", "0-1", "--layers", "0,1"], "--layers: a set of layers is given twice"),
        (["--out", "{0}/no/x.safetensors"], "--out {0}/no/x.safetensors: there is no directory"),
        (["--problems", "{0}/vector.safetensors"], "{0}/vector.safetensors: cannot be read"),
    ],
)
def test_bad_input_ends_before_anything_is_started(
    tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "vector.safetensors").write_bytes(file.write(VECTOR))
    (tmp_path / "problems.yaml").write_text("[{set: reasoner, each: 1}]")
    chosen: dict[str, Any] = {
        "--vector": f"{tmp_path}/vector.safetensors",
        "--problems": f"{tmp_path}/problems.yaml",
        "--out": f"{tmp_path}/out.safetensors",
    }
    given = [option.format(tmp_path) for option in options]
    rest = [part for pair in chosen.items() if pair[0] not in given for part in pair]
    result = CliRunner().invoke(app, ["directions", "calibrate", "reasoner", *rest, *given])
    assert result.exit_code == 2
    assert message.format(tmp_path) in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()
