"""Chains against votes and the best of n, at the same tokens: `python -m evals.evidence.align`.

Reads the responses of the runs `align_samples`, `align_cool` and `align_chains`, which `make
evidence` draws. Of the plain samples it makes a majority, a best of n and a majority weighted by
the same noisy reward; of those at the temperature of the power's proposals a majority.
Each chain is cut at the step up to which it has sampled as many tokens, on average, as n samples.
Writes `results/align/curves.json`, for the page.

With `--out` it draws the runs itself, at any size, and leaves all in that directory:

    python -m evals.evidence.align --out DIR [--responses 8] [--each 25]
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import TypeAdapter
from rich.console import Console

from evals.evidence import noisy
from evals.evidence.curves import Curves, Point, SizedPair
from evals.evidence.pairs import Side, paired
from evals.evidence.selection import Drawn, Response, Selection, best, majority, weighted
from steersman.evaluate import problems as sets
from steersman.evaluate import spec as specs
from steersman.evaluate.answers import Comparer, after_thinking
from steersman.evaluate.evaluation import run_evaluation
from steersman.evaluate.inference import Array, Bootstrap, mean
from steersman.evaluate.problems import Problem
from steersman.evaluate.records import Record
from steersman.reward.reward import LARGEST
from steersman.trajectory.answers import canonical

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SAMPLES, COOL, CHAINS = "align_samples", "align_cool", "align_chains"
REWARD, POWER = "reward chain", "power chain"
STEPS = {REWARD: 2.0, POWER: 2.5}
"""Steps for each sample that they are compared with: a step costs half a response or less."""
COOL_MOST = 16
"""Most samples at the temperature of the power's proposals: they are compared up to here."""
THINK_START, THINK_END = "<think>", "</think>"

SINGLE, MAJORITY, BEST, WEIGHTED = "single", "majority", "best of n", "weighted majority"
COOL_MAJORITY = "majority at temperature 1/4"
PAIRS = (
    (REWARD, BEST),
    (REWARD, WEIGHTED),
    (REWARD, MAJORITY),
    (POWER, MAJORITY),
    (POWER, COOL_MAJORITY),
    (POWER, SINGLE),
)


def sampled(problem: Problem, records: Sequence[Record]) -> tuple[list[Response], list[float]]:
    """The plain samples of a problem, with the reward of each; and the tokens up to there."""
    found, in_order = [], sorted(records, key=lambda one: one.sample)
    for record in in_order:
        text = after_thinking(record.content)
        reward = (
            noisy.judged(problem.id, problem.answer, record.reasoning or "", text)
            if text.strip()
            else -LARGEST
        )
        found.append(Response(canonical(text), record.right, reward))
    return found, list(accumulate(float(record.sampled_tokens) for record in in_order))


def walked(problem: Problem, record: Record) -> tuple[list[Response], list[float]]:
    """The states of a problem's chain after each of its steps; and the tokens up to there.

    A receipt has the tokens of all steps together. They are spread over the steps by the length of
    the state before each: a step samples half of it, on average.
    """
    search = search_of(record)
    answers = [after_thinking(step["text"]) for step in search["chain"]]
    states = [Response(canonical(text), problem.is_right(text)) for text in answers]
    resampled = search["resampled_tokens"]
    first = record.sampled_tokens - resampled
    lengths = [first, *(step["tokens"] for step in search["chain"])][:-1]
    costs = (resampled * length / sum(lengths) for length in lengths)
    return states, list(accumulate(costs, initial=float(first)))[1:]


def same_rewards(problem: Problem, record: Record) -> list[bool]:
    """Tells of each state of a chain towards the reward if it has the score here that the server
    gave it."""
    found = []
    for step in search_of(record)["chain"]:
        thinking, closed, answer = step["text"].partition(THINK_END)
        thinking = thinking.rpartition(THINK_START)[2]
        reward = noisy.judged(problem.id, problem.answer, thinking, answer) if closed else -LARGEST
        found.append(math.isclose(reward, step["target"]))
    return found


def search_of(record: Record) -> dict[str, Any]:
    """A record's `applied.search`."""
    assert record.receipt is not None
    assert record.receipt.applied.search is not None
    return record.receipt.applied.search.model_dump()


def drawn(each: Sequence[tuple[list[Response], list[float]]]) -> Drawn:
    """Responses to all problems, each with the tokens up to there."""
    return Drawn([own for own, _ in each], np.array([tokens for _, tokens in each]))


def compare(
    problems: Sequence[Problem],
    samples: Sequence[Record],
    cool: Sequence[Record],
    chains: Sequence[Record],
) -> Curves:
    """Curves of all methods.

    Args:
        problems: The problems.
        samples: Plain samples of each, as many of all.
        cool: Some at the temperature of the power's proposals, as many of all.
        chains: A chain of each, as long for all, under each control of `STEPS`.

    """
    plain, cooler = (_by_problem(problems, records) for records in (samples, cool))
    chain = {(one.control, one.problem): one for one in chains if one.control in STEPS}
    walks = {name: drawn([walked(one, chain[name, one.id]) for one in problems]) for name in STEPS}
    bootstrap = Bootstrap(len(problems))
    right: dict[tuple[str, int], Array] = {}
    methods: dict[str, list[Point]] = {}

    def add(name: str, size: int, of: Drawn, count: int, select: Selection) -> None:
        right[name, size] = hits = of.right(count, select)
        tokens = mean(bootstrap, of.tokens[:, count - 1 : count])
        steps = count if name in STEPS else None
        point = Point(size, steps, mean(bootstrap, hits), tokens)
        methods.setdefault(name, []).append(point)

    most = plain.tokens.shape[1]
    for size in (2**power for power in range(most.bit_length())):
        right[SINGLE, size] = plain.right(1, majority)
        for name, select in ((MAJORITY, majority), (BEST, best), (WEIGHTED, weighted)):
            add(name, size, plain, size, select)
        if size <= cooler.tokens.shape[1] and (
            count := cooler.within(plain.tokens[:, size - 1].mean())
        ):
            add(COOL_MAJORITY, size, cooler, count, majority)
        for name, walk in walks.items():
            if steps := walk.within(plain.tokens[:, size - 1].mean()):
                add(name, size, walk, steps, majority)
    whole = {name: walk.right(walk.tokens.shape[1], majority) for name, walk in walks.items()}
    served = {name: np.array([[chain[name, one.id].right] for one in problems]) for name in STEPS}
    return Curves(
        len(problems),
        {name: tuple(points) for name, points in methods.items()},
        _pairs(right, bootstrap),
        {name: float((whole[name] == served[name]).mean()) for name in STEPS},
        float(np.mean([same_rewards(one, chain[REWARD, one.id]) for one in problems])),
    )


def _by_problem(problems: Sequence[Problem], records: Sequence[Record]) -> Drawn:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.problem, []).append(record)
    return drawn([sampled(one, found[one.id]) for one in problems])


def _pairs(right: Mapping[tuple[str, int], Array], bootstrap: Bootstrap) -> tuple[SizedPair, ...]:
    sizes = {name: {size for of, size in right if of == name} for name, _ in right}
    sides = [
        (ours, theirs, size)
        for ours, theirs in PAIRS
        for size in sorted(sizes[ours] & sizes[theirs])
    ]
    pairs = paired(
        bootstrap,
        [
            (Side(ours, right[ours, size]), Side(theirs, right[theirs, size]))
            for ours, theirs, size in sides
        ],
    )
    return tuple(
        SizedPair(pair.ours, pair.theirs, pair.points, pair.better, pair.worse, pair.p_adjusted, n)
        for pair, (_, _, n) in zip(pairs, sides, strict=True)
    )


def scaled(definition: Mapping[str, Any], responses: int, each: int) -> dict[str, Any]:
    """A run's definition at another size.

    Args:
        definition: Of one of the runs.
        responses: Plain samples of each problem, and what chains are long enough for.
        each: Problems of each kind and grade.

    """
    found = json.loads(json.dumps(definition))
    for one in found["problems"]:
        one["each"] = each
    if found["samples"] > 1:
        found["samples"] = responses if found["temperature"] == 1 else min(responses, COOL_MOST)
    for name, steps in STEPS.items():
        if name in found["controls"]:
            found["controls"][name]["search"]["steps"] = round(steps * responses)
    return dict(found)


def draw(out: Path, responses: int, each: int, console: Console) -> None:
    """Draw the runs at a size, into a directory that then has their definitions too."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (SAMPLES, COOL, CHAINS):
        definition = yaml.safe_load((HERE / f"{name}.yaml").read_text())
        path = out / f"{name}.yaml"
        path.write_text(yaml.safe_dump(scaled(definition, responses, each), sort_keys=False))
        run_evaluation(path, out / name, None, console)


def read(definitions: Path, results: Path) -> Curves:
    """Curves of the runs that have been drawn.

    Args:
        definitions: Directory of their YAML files.
        results: Directory of their directories.

    """
    adapter = TypeAdapter(Record)

    def records(name: str) -> list[Record]:
        lines = (results / name / "responses.jsonl").read_text().splitlines()
        return [adapter.validate_json(line) for line in lines]

    spec = specs.load(definitions / f"{CHAINS}.yaml")
    with Comparer() as comparer:
        found = sets.load(spec.problems, comparer)
        return compare(found, records(SAMPLES), records(COOL), records(CHAINS))


def main() -> None:
    """Write the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="draw the runs anew, into this directory")
    parser.add_argument("--responses", type=int, default=8, help="samples of a problem; full: 64")
    parser.add_argument("--each", type=int, default=25, help="problems of each of 20 cells")
    options = parser.parse_args()
    if options.out is not None:
        draw(options.out, options.responses, options.each, Console())
    results = options.out or RESULTS
    curves = read(options.out or HERE, results)
    directory = results / "align"
    directory.mkdir(exist_ok=True)
    text = json.dumps(asdict(curves), indent=2) + "\n"
    (directory / "curves.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
