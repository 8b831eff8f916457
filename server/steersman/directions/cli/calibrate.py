"""`steersman directions calibrate`."""

import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from steersman.console import errors, fail, output
from steersman.directions.cli.options import (
    MaxTokensOption,
    ModelOption,
    ProblemsOption,
    SeedOption,
    TemperatureOption,
)
from steersman.directions.cli.shared import problem_sets, reason, write
from steersman.directions.error import DirectionError
from steersman.evaluate import optional
from steersman.evaluate.error import EvaluationError
from steersman.vectors import file, parse
from steersman.vectors.vector import Vector, VectorError, model_digest

if TYPE_CHECKING:
    from steersman.directions.calibrate import Point, Recommendation, Sweep


class Goal(StrEnum):
    """Purpose of a vector."""

    SHORTER = "shorter"
    LONGER = "longer"


class At(StrEnum):
    """Steered tokens of a phase."""

    ALL = "all"
    BOUNDARY = "boundary"


class Phase(StrEnum):
    """Steered phase."""

    ALL = "all"
    THINKING = "thinking"
    ANSWER = "answer"


_VectorOption = Annotated[
    Path, typer.Option(help="The vector's file.", exists=True, dir_okay=False)
]
_OutOption = Annotated[Path, typer.Option(help="The calibrated vector's file to write.")]
_LayersOption = Annotated[
    list[str] | None,
    typer.Option(help="Layers to steer: 3, 1,2 or 0-3; several times to try several. All."),
]
_StrengthsOption = Annotated[str, typer.Option(help="Strengths to try, in units of the vector.")]
_GoalOption = Annotated[Goal, typer.Option(help="What thinking should become.")]
_ToleranceOption = Annotated[
    float, typer.Option(min=0, max=1, help="Loss of accuracy that must be excluded.")
]
_AtOption = Annotated[
    At | None, typer.Option(help="Steered tokens; what the vector says if left out.")
]
_PhaseOption = Annotated[
    Phase | None, typer.Option(help="Steered phase; what the vector says if left out.")
]
_SamplesOption = Annotated[int, typer.Option(min=1, help="Responses under each setting.")]
_ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Requests in flight.")]
_DirectoryOption = Annotated[
    Path | None,
    typer.Option(help="Where responses and their report are kept; OUT without its suffix."),
]
_PlotOption = Annotated[
    Path | None, typer.Option(help="A picture to draw: length and accuracy by strength.")
]


def calibrate(
    context: typer.Context,
    model: ModelOption,
    vector: _VectorOption,
    problems: ProblemsOption,
    out: _OutOption,
    layers: _LayersOption = None,
    strengths: _StrengthsOption = "-1,-0.5,-0.25,0.25,0.5,1",
    goal: _GoalOption = Goal.SHORTER,
    tolerance: _ToleranceOption = 0.03,
    at: _AtOption = None,
    phase: _PhaseOption = None,
    samples: _SamplesOption = 1,
    max_tokens: MaxTokensOption = 4096,
    temperature: TemperatureOption = 1.0,
    seed: SeedOption = 0,
    concurrency: _ConcurrencyOption = 32,
    directory: _DirectoryOption = None,
    plot: _PlotOption = None,
) -> None:
    """Sweep layers and strengths of a vector, and write the best setting into its file.

    The same command goes on with an interrupted sweep. If no setting has the wanted effect at a
    tolerable loss, nothing is written and the exit code is 1. Further options are the server's: any
    argument of `steersman serve`.
    """
    _check_directories(out=out, plot=plot)

    from steersman.directions import calibrate as calibration
    from steersman.directions.offline import describe
    from steersman.evaluate import problems as loading
    from steersman.evaluate.answers import Comparer

    try:
        plots = optional.load("steersman.directions.calibration_plots") if plot else None
        given = parse(vector.read_bytes())
        sweep = calibration.Sweep(
            layers=_layers(layers, given),
            strengths=_strengths(strengths),
            at=cast("Any", (at or given.metadata.at)),
            phase=cast("Any", (phase or given.metadata.phase)),
            samples=samples,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            concurrency=concurrency,
        )
        calibration.check(sweep, given)
        sets = problem_sets(problems)
        with Comparer() as comparer:
            asked = len(loading.load(sets, comparer))
        _announce(sweep, asked)
        kept = directory or out.with_suffix("")
        report = calibration.run(model, context.args, given, sets, sweep, kept, errors)
        found = calibration.points(report, sweep)
        _show(found)
        if plots is not None:
            plots.draw(found, plot)
        recommendation = calibration.recommend(found, goal.value, tolerance, problems=asked)
    except (VectorError, EvaluationError) as error:
        fail(f"--vector: {error}" if isinstance(error, VectorError) else str(error))
    except DirectionError as error:
        if error.field != "tolerance":
            fail(reason(error))
        errors.print(f"steersman: {error}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    served, _ = describe(model)
    facts = {
        "model": model,
        "model_digest": model_digest(served),
        "goal": goal.value,
        "tolerance": tolerance,
        "problems": asked,
        "sets": [one.model_dump(mode="json", exclude_none=True) for one in sets],
    }
    made = calibration.calibrated(given, recommendation, found, sweep, facts)
    write({out: file.write(made)})
    _recommend(recommendation)
    output.print(f"vector: {out}", highlight=False, soft_wrap=True)


def _check_directories(**files: Path | None) -> None:
    """End the command if a file could not be written."""
    for option, path in files.items():
        if path is not None and not path.absolute().parent.is_dir():
            fail(f"--{option} {path}: there is no directory {path.absolute().parent}")


def _announce(sweep: "Sweep", problems: int) -> None:
    """Say how many responses will be drawn."""
    requests = problems * sweep.samples * (1 + len(sweep.settings))
    errors.print(
        f"{len(sweep.settings)} settings and none, {problems} problems: {requests} responses",
        highlight=False,
    )


def _recommend(recommendation: "Recommendation") -> None:
    """Print the best setting, and what to beware of."""
    best = recommendation.best
    low, high = recommendation.bounds
    for warning in recommendation.warnings:
        output.print(f"warning: {warning}", highlight=False, soft_wrap=True)
    output.print(
        f"recommended: {best.setting.name} (range {low:g} to {high:g}): "
        f"{best.thinking.value:.2f} of the thinking tokens, accuracy {best.accuracy.value:+.3f}",
        highlight=False,
        soft_wrap=True,
    )


def _layers(given: Sequence[str] | None, vector: Vector) -> tuple[tuple[int, ...], ...]:
    if not given:
        return (tuple(vector.layers),)
    sets = []
    for text in given:
        layers: set[int] = set()
        for part in text.split(","):
            first, dash, last = part.partition("-")
            if not first.isdecimal() or (dash and not last.isdecimal()):
                raise DirectionError(f"{text!r}: give layers as 3, 1,2 or 0-3", field="layers")
            layers |= set(range(int(first), int(last or first) + 1))
        sets.append(tuple(sorted(layers)))
    if len(set(sets)) < len(sets):
        raise DirectionError("a set of layers is given twice", field="layers")
    return tuple(sets)


def _strengths(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise DirectionError(f"{text!r}: give numbers with commas between", field="strengths")
    return found


def _show(found: "Sequence[Point]") -> None:
    table = Table("layers", "strength", "thinking tokens, of unsteered", "accuracy, difference")
    for point in found:
        table.add_row(
            ",".join(map(str, point.setting.layers)),
            f"{point.setting.strength:g}",
            f"{point.thinking.value:.3f} [{point.thinking.low:.3f}, {point.thinking.high:.3f}]",
            f"{point.accuracy.value:+.3f} [{point.accuracy.low:+.3f}, {point.accuracy.high:+.3f}]",
        )
    output.print(table)
