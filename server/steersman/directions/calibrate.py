"""Calibration of strength and layers: `steersman directions calibrate`.

A sweep is an evaluation run whose controls are the vector at some layers and strengths, compared
with no control on the same problems and seeds. From it a setting is recommended: the one with most
effect among those that provably cost no more accuracy than is tolerated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter
from rich.console import Console

from steersman.directions.error import DirectionError
from steersman.evaluate.evaluation import run_evaluation
from steersman.evaluate.inference import Estimate
from steersman.evaluate.report import Report
from steersman.evaluate.spec import ProblemSet, RunSpec
from steersman.steering.configuration import Phase, Place
from steersman.vectors import file
from steersman.vectors.vector import Vector

Goal = Literal["shorter", "longer"]

PLAIN = "plain"
"""The control of a sweep that steers nothing."""
FEW_PROBLEMS = 200
"""Below this, intervals are so wide that little can be told."""

_NAME = "vector"
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to use a vector.

    Attributes:
        layers: Where it is added.
        strength: Times which it is added.

    """

    layers: tuple[int, ...]
    strength: float

    @property
    def name(self) -> str:
        """Name of the setting in the evaluation."""
        return f"layers {'+'.join(map(str, self.layers))} at {self.strength:g}"


@dataclass(frozen=True, slots=True)
class Point:
    """Effect of a setting against no steering, with 95 % intervals.

    Attributes:
        setting: The setting.
        thinking: Mean thinking tokens over those without steering.
        accuracy: Accuracy minus that without steering.

    """

    setting: Setting
    thinking: Estimate
    accuracy: Estimate

    def keeps(self, tolerance: float) -> bool:
        """True if the interval excludes a loss of accuracy above the tolerance."""
        return self.accuracy.low >= -tolerance

    def moves(self, goal: Goal) -> bool:
        """True if the interval shows shorter (or longer) thinking."""
        return self.thinking.high < 1 if goal == "shorter" else self.thinking.low > 1


@dataclass(frozen=True, slots=True)
class Sweep:
    """Grid of settings to try, and how they are sampled.

    Attributes:
        layers: Sets of layers, each tried at every strength.
        strengths: None is 0.
        at: Steered tokens of the phase.
        phase: Steered phase.
        samples: Of each problem under each setting.
        max_tokens: Of a response.
        temperature: Of the sampling.
        seed: Of the sampling.
        concurrency: Requests in flight.

    """

    layers: tuple[tuple[int, ...], ...]
    strengths: tuple[float, ...]
    at: Place
    phase: Phase
    samples: int = 1
    max_tokens: int = 4096
    temperature: float = 1.0
    seed: int = 0
    concurrency: int = 32

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All that is tried."""
        return tuple(Setting(*pair) for pair in product(self.layers, self.strengths))


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The outcome of a sweep.

    Attributes:
        best: The recommended setting.
        bounds: Strengths around 0, at its layers, up to which accuracy is kept: low and high.
        warnings: Warnings to the reader, a sentence each.

    """

    best: Point
    bounds: tuple[float, float]
    warnings: tuple[str, ...]


def check(sweep: Sweep, vector: Vector) -> None:
    """Refuse a sweep that cannot be.

    Raises:
        DirectionError: A strength is 0 or there twice, or a layer is not one of the vector's.

    """
    if vector.metadata.site != "layer":
        raise DirectionError(
            f"the vector is of site {vector.metadata.site!r}: requests are steered at 'layer'",
            field="vector",
        )
    if 0 in sweep.strengths or len(set(sweep.strengths)) < len(sweep.strengths):
        raise DirectionError("strengths must differ from 0 and from each other", field="strengths")
    for layers in sweep.layers:
        for layer in layers:
            if layer not in vector.layers:
                raise DirectionError(f"the vector has no layer {layer}", field="layers")


def run(
    model: str,
    arguments: Sequence[str],
    vector: Vector,
    problems: Sequence[ProblemSet],
    sweep: Sweep,
    directory: Path,
    console: Console,
) -> Report:
    """Do a sweep, or go on with it where it stopped.

    Args:
        model: A built-in model, a Hugging Face id or a directory.
        arguments: Further arguments of the server.
        vector: The vector.
        problems: The problems to ask.
        sweep: The settings to try.
        directory: Where responses and the evaluation's report are kept.
        console: For progress and the conclusion.

    Raises:
        DirectionError: The directory has the sweep of another vector.
        steersman.evaluate.error.EvaluationError: It cannot be done, or not be finished now.

    """
    kept = directory / "vectors"
    kept.mkdir(parents=True, exist_ok=True)
    copy, content = kept / f"{_NAME}.safetensors", file.write(vector)
    if copy.exists() and copy.read_bytes() != content:
        raise DirectionError(f"{directory} has responses of another vector", field="directory")
    copy.write_bytes(content)
    spec = RunSpec(
        name="calibration",
        model=model,
        server=(*arguments, "--no-model-controls", "--vectors", str(kept.resolve())),
        problems=tuple(problems),
        controls={PLAIN: None, **{one.name: _control(one, sweep) for one in sweep.settings}},
        baseline=PLAIN,
        samples=sweep.samples,
        seed=sweep.seed,
        temperature=sweep.temperature,
        max_tokens=sweep.max_tokens,
        concurrency=sweep.concurrency,
    )
    path = directory / "calibration.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
    run_evaluation(path, directory, None, console)
    return TypeAdapter(Report).validate_json((directory / "report.json").read_bytes())


def _control(setting: Setting, sweep: Sweep) -> dict[str, Any]:
    return {
        "steer": [
            {
                "vector": _NAME,
                "strength": setting.strength,
                "layers": list(setting.layers),
                "at": sweep.at,
                "phase": sweep.phase,
            }
        ]
    }


def points(report: Report, sweep: Sweep) -> tuple[Point, ...]:
    """Measured effect of each setting.

    Raises:
        DirectionError: The model's thinking tokens are not counted.

    """
    found = []
    for setting in sweep.settings:
        comparison = report.comparisons[setting.name]
        if comparison.thinking_tokens is None:
            raise DirectionError(
                "the server counts no thinking tokens of this model: name its parser with "
                "--reasoning-parser",
                field="model",
            )
        found.append(Point(setting, comparison.thinking_tokens, comparison.accuracy))
    return tuple(found)


def recommend(
    found: Sequence[Point], goal: Goal, tolerance: float, *, problems: int
) -> Recommendation:
    """The setting with most effect among those that keep the accuracy.

    Args:
        found: The effect of each setting.
        goal: The purpose of the vector.
        tolerance: Loss of accuracy that the intervals must exclude.
        problems: Number of problems of the sweep.

    Raises:
        DirectionError: No setting does what is wanted; the message names the nearest.

    """
    good = [point for point in found if point.keeps(tolerance) and point.moves(goal)]
    if not good:
        raise DirectionError(_nothing(found, goal, tolerance), field="tolerance")
    sign = 1 if goal == "shorter" else -1
    best = min(good, key=lambda point: sign * point.thinking.value)
    line = sorted(
        (point for point in found if point.setting.layers == best.setting.layers),
        key=lambda point: point.setting.strength,
    )
    kept = _around_zero(line, tolerance)
    warnings = [*_reversals(kept), *_edge(best, line)]
    if problems < FEW_PROBLEMS:
        warnings.append(f"only {problems} problems were asked: the intervals are wide")
    strengths = [point.setting.strength for point in kept]
    return Recommendation(best, (min(0.0, *strengths), max(0.0, *strengths)), tuple(warnings))


def _around_zero(line: Sequence[Point], tolerance: float) -> list[Point]:
    """The points on both sides of 0, up to the first that loses accuracy; by strength."""
    kept: list[Point] = []
    for sign in (-1, 1):
        side = [point for point in line if sign * point.setting.strength > 0]
        for point in sorted(side, key=lambda point: abs(point.setting.strength)):
            if not point.keeps(tolerance):
                break
            kept.append(point)
    return sorted(kept, key=lambda point: point.setting.strength)


def _reversals(kept: Sequence[Point]) -> list[str]:
    """Steps in which thinking turns back, beyond both intervals."""
    unsteered = Estimate(1.0, 1.0, 1.0)
    line = sorted([*((p.setting.strength, p.thinking) for p in kept), (0.0, unsteered)])
    falls = line[-1][1].value < line[0][1].value
    warnings = []
    for (before, one), (after, other) in pairwise(line):
        turned = other.low > one.high if falls else other.high < one.low
        if turned:
            warnings.append(
                f"thinking is not monotone in strength: {one.value:.2f} of its length at "
                f"{before:g}, {other.value:.2f} at {after:g}"
            )
    return warnings


def _edge(best: Point, line: Sequence[Point]) -> list[str]:
    strength = best.setting.strength
    side = [p.setting.strength for p in line if p.setting.strength * strength > 0]
    if abs(strength) < max(map(abs, side)):
        return []
    return [f"{strength:g} is the strongest that was tried: a stronger one may do more"]


def _nothing(found: Sequence[Point], goal: Goal, tolerance: float) -> str:
    moving = [point for point in found if point.moves(goal)]
    if not moving:
        return f"no setting made thinking {goal}, beyond the interval"
    nearest = max(moving, key=lambda point: point.accuracy.low)
    return (
        f"no setting made thinking {goal} at a loss of accuracy within {tolerance:g}; the nearest "
        f"is {nearest.setting.name}: {nearest.thinking.value:.2f} of the thinking tokens, accuracy "
        f"{nearest.accuracy.value:+.3f} [{nearest.accuracy.low:+.3f}, {nearest.accuracy.high:+.3f}]"
    )


def calibrated(
    vector: Vector,
    recommendation: Recommendation,
    found: Sequence[Point],
    sweep: Sweep,
    facts: Mapping[str, Any],
) -> Vector:
    """The vector with the recommended setting as its default, and how it was found.

    Args:
        vector: The vector.
        recommendation: The recommended setting.
        found: The effect of each setting.
        sweep: The settings that were tried.
        facts: Further provenance: model, goal, tolerance, problems.

    """
    setting = recommendation.best.setting
    metadata = vector.metadata.model_copy(
        update={
            "layers": setting.layers,
            "strength": setting.strength,
            "strength_range": recommendation.bounds,
            "at": sweep.at,
            "phase": sweep.phase,
            "calibration": {
                **facts,
                "samples": sweep.samples,
                "temperature": sweep.temperature,
                "warnings": list(recommendation.warnings),
                "points": [
                    {
                        "layers": list(point.setting.layers),
                        "strength": point.setting.strength,
                        "thinking": _rounded(point.thinking),
                        "accuracy": _rounded(point.accuracy),
                    }
                    for point in found
                ],
            },
        }
    )
    return replace(vector, metadata=metadata)


def _rounded(estimate: Estimate) -> list[float]:
    """Value, low and high."""
    return [round(value, _DIGITS) for value in asdict(estimate).values()]
