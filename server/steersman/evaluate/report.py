"""Report of a finished run: each control by itself, against the baseline, and by length."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steersman.evaluate.inference import (
    LEVEL,
    Bootstrap,
    Estimate,
    difference,
    holm,
    mcnemar,
    mean,
    proportion,
    quantile,
    quantile_ratio,
    ratio,
)
from steersman.evaluate.lengths import Lengths, by_length, shortest_tenth
from steersman.evaluate.problems import Problem
from steersman.evaluate.records import Record
from steersman.evaluate.spec import RunSpec
from steersman.evaluate.table import Table, tabulate

Verdict = Literal["better", "worse", "indistinguishable"]


@dataclass(frozen=True, slots=True)
class ControlSummary:
    """One control by itself. Token counts and seconds are of one response.

    Attributes:
        accuracy: Share of right answers.
        thinking_tokens: Mean; None when the server does not count them.
        sampled_tokens: Mean of all that was sampled, losers of a search included.
        returned_tokens: Mean of the returned tokens, thinking included.
        seconds_p50: Median latency.
        seconds_p95: Latency that 95 % of the responses keep.
        cut_off: Share of responses that ran into the token limit.
        groups: Accuracy in each group of problems.

    """

    accuracy: Estimate
    thinking_tokens: Estimate | None
    sampled_tokens: Estimate
    returned_tokens: Estimate
    seconds_p50: Estimate
    seconds_p95: Estimate
    cut_off: float
    groups: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One control against the baseline, paired by problem and sample.

    Attributes:
        accuracy: Its accuracy minus the baseline's.
        better: Questions that only the control answered right.
        worse: Questions that only the baseline answered right.
        p_value: Of McNemar's exact test on those two.
        p_adjusted: The same, adjusted for the number of comparisons (Holm).
        sampled_tokens: Mean over the baseline's mean.
        seconds_p50: Median latency over the baseline's.
        verdict: Better or worse when `p_adjusted` is below 0.05 and the interval of `accuracy`
            excludes zero.
        thinking_tokens: Mean over the baseline's mean; None where the server does not count them.
        shortest_tenth: Accuracy of the control's own shortest tenth minus that of the baseline's
            own; None with too few responses.

    """

    accuracy: Estimate
    better: int
    worse: int
    p_value: float
    p_adjusted: float
    sampled_tokens: Estimate
    seconds_p50: Estimate
    verdict: Verdict
    thinking_tokens: Estimate | None = None
    shortest_tenth: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A finished run.

    Attributes:
        controls: By name, in the order of the run's file.
        comparisons: Of every control but the baseline.
        pareto: Controls that no other beats in accuracy without sampling more, cheapest first.
        lengths: Of the baseline; None with too few responses.

    """

    name: str
    model: str
    baseline: str
    problems: int
    samples: int
    concurrency: int
    temperature: float
    max_tokens: int
    controls: Mapping[str, ControlSummary]
    comparisons: Mapping[str, Comparison]
    pareto: tuple[str, ...]
    lengths: Lengths | None


def summarise(
    spec: RunSpec, model: str, problems: Sequence[Problem], records: Iterable[Record]
) -> Report:
    """The report of a run whose every question is answered."""
    found = tabulate(records, [problem.id for problem in problems], spec.samples)
    tables = {name: found[name] for name in spec.controls}
    bootstrap = Bootstrap(len(problems), spec.seed)
    groups = np.array([problem.group for problem in problems])
    controls = {name: _summary(table, groups, bootstrap) for name, table in tables.items()}
    return Report(
        name=spec.name,
        model=model,
        baseline=spec.baseline,
        problems=len(problems),
        samples=spec.samples,
        concurrency=spec.concurrency,
        temperature=spec.temperature,
        max_tokens=spec.max_tokens,
        controls=controls,
        comparisons=_comparisons(tables, spec, bootstrap),
        pareto=_pareto(controls),
        lengths=by_length(tables[spec.baseline], bootstrap, spec.seed),
    )


def _summary(table: Table, groups: NDArray[np.str_], bootstrap: Bootstrap) -> ControlSummary:
    return ControlSummary(
        accuracy=proportion(bootstrap, table.right),
        thinking_tokens=None if table.thinking is None else mean(bootstrap, table.thinking),
        sampled_tokens=mean(bootstrap, table.sampled),
        returned_tokens=mean(bootstrap, table.completion),
        seconds_p50=quantile(bootstrap, table.seconds, 0.5),
        seconds_p95=quantile(bootstrap, table.seconds, 0.95),
        cut_off=float(table.cut_off.mean()),
        groups={
            str(group): float(table.right[groups == group].mean())
            for group in dict.fromkeys(groups)
        },
    )


def _comparisons(
    tables: Mapping[str, Table], spec: RunSpec, bootstrap: Bootstrap
) -> dict[str, Comparison]:
    theirs = tables[spec.baseline]
    others = {name: table for name, table in tables.items() if name != spec.baseline}
    better = [int((ours.right > theirs.right).sum()) for ours in others.values()]
    worse = [int((ours.right < theirs.right).sum()) for ours in others.values()]
    p_values = [mcnemar(*pair) for pair in zip(better, worse, strict=True)]
    adjusted = holm(p_values)
    comparisons = {}
    for i, (name, ours) in enumerate(others.items()):
        gain = difference(bootstrap, ours.right, theirs.right)
        comparisons[name] = Comparison(
            accuracy=gain,
            better=better[i],
            worse=worse[i],
            p_value=p_values[i],
            p_adjusted=adjusted[i],
            sampled_tokens=ratio(bootstrap, ours.sampled, theirs.sampled),
            seconds_p50=quantile_ratio(bootstrap, ours.seconds, theirs.seconds, 0.5),
            verdict=_verdict(gain, adjusted[i]),
            thinking_tokens=_thinking(ours, theirs, bootstrap),
            shortest_tenth=shortest_tenth(ours, theirs, bootstrap, spec.seed),
        )
    return comparisons


def _thinking(ours: Table, theirs: Table, bootstrap: Bootstrap) -> Estimate | None:
    if ours.thinking is None or theirs.thinking is None or not theirs.thinking.any():
        return None
    return ratio(bootstrap, ours.thinking, theirs.thinking)


def _verdict(gain: Estimate, p_adjusted: float) -> Verdict:
    if p_adjusted >= LEVEL or not gain.excludes_zero:
        return "indistinguishable"
    return "better" if gain.value > 0 else "worse"


def _pareto(controls: Mapping[str, ControlSummary]) -> tuple[str, ...]:
    cheapest_first = sorted(
        controls, key=lambda name: (controls[name].sampled_tokens.value, -_accuracy(controls, name))
    )
    front: list[str] = []
    for name in cheapest_first:
        if not front or _accuracy(controls, name) > _accuracy(controls, front[-1]):
            front.append(name)
    return tuple(front)


def _accuracy(controls: Mapping[str, ControlSummary], name: str) -> float:
    return controls[name].accuracy.value
