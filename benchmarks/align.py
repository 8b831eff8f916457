"""Chains of `align`: their speed over the published library's lock-step, and that of looking ahead.

1. Steps a second of 8 and of 32 chains, over `lockstep.py`: vLLM's offline engine, in which all
   chains wait in each step for the longest response. Chains of the same prompts (8 of each), with
   the same number type, token limit, reward and beta; each side has the machine for itself while
   the other one stands still, and who goes first is drawn. Ours comes over HTTP, a request for each
   prompt, with a receipt, and has steering installed, as by default. The reward is whether an
   expression matches the answer: next to nothing for both.
2. One chain with look-ahead over the same chain without. A round of proposals lasts as long as the
   longest of those that are judged. So the most that can be gained is E[judged] E[L] / E[max L],
   the tokens of all judged proposals over those of the longest of each round. That is the ratio of
   the two chains' `compute.sequential_tokens`, which count the first response too. An engine comes
   near it if a step for several proposals takes no longer than a step for one.
3. Tokens that a step samples and prefills, from the receipts of the chains without look-ahead.

    python benchmarks/align.py [--rounds 4] [--steps 10] [--problems 6] [--walk 24]
        [--dtype float32]
"""

import argparse
import random
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lockstep
import puzzles
import report
import turns

from steersman import models
from steersman.local import LocalServer
from steersman.puzzles.problems import Problem

MODEL = "reasoner"
TOKENS = 448
SEQUENCES = 128
"""Most in a batch, on both sides: more than there ever are."""
BLOCK = 32
CHAINS = 8
"""Chains of each prompt."""
SIZES = (8, 32)
BETA = 0.5
AIMS = {"lockstep": ">= 1.5", "share": ">= 0.8", "prefill": f"< {BLOCK}: a block of the cache"}

POWER, REWARD, LIKELIHOOD = "power 4", "verify, beta 0.5", "likelihood, beta 0.02"

T = TypeVar("T")
Pair = tuple[T, T]


@dataclass(frozen=True, slots=True)
class Spent:
    """Numbers of some chains, from their receipts.

    Attributes:
        seconds: From the first request to the last answer.
        steps: Steps that were judged.
        accepted: Those of them that were accepted.
        sampled: Tokens drawn in all, thrown away ones included.
        resampled: Tokens of the proposals that were judged.
        reused: Tokens that these kept of the state before.
        sequential: Tokens that waited for one another.
        prefilled: Prompt tokens computed.
        launched: First responses and proposals.

    """

    seconds: float
    steps: int
    accepted: int
    sampled: int
    resampled: int
    reused: int
    sequential: int
    prefilled: int
    launched: int

    @classmethod
    def of(cls, seconds: float, answers: Sequence[Mapping[str, Any]]) -> "Spent":
        """Sums over the answers of requests that ran side by side."""
        searches = [answer["control"]["applied"]["search"] for answer in answers]
        computes = [answer["control"]["compute"] for answer in answers]
        return cls(
            seconds,
            sum(search["steps"] for search in searches),
            sum(round(search["steps"] * search["acceptance"]) for search in searches),
            sum(compute["sampled_tokens"] for compute in computes),
            sum(search["resampled_tokens"] for search in searches),
            sum(search["reused_tokens"] for search in searches),
            max(compute["sequential_tokens"] for compute in computes),
            sum(compute["prefill_tokens"] for compute in computes),
            sum(search["launched"] for search in searches),
        )


def regex(problem: Problem) -> str:
    """An expression that the right answer matches."""
    return re.escape(rf"\boxed{{{problem.answer}}}")


def target(name: str, problem: Problem) -> dict[str, Any]:
    """The `target` of a request."""
    if name == POWER:
        return {"power": 4.0}
    if name == LIKELIHOOD:
        return {"reward": {"name": "likelihood", "see": "all"}, "beta": 0.02}
    return {"reward": {"name": "verify", "data": {"regex": regex(problem)}}, "beta": BETA}


def asked(
    url: str, name: str, of: Sequence[Problem], seed: int | None = None, **search: Any
) -> Spent:
    """Send a request for each problem, all at once.

    Args:
        url: Of the server.
        name: Of the target.
        of: The problems.
        seed: Of the first request; None for requests without.
        search: Further fields of the search.

    """
    bodies = [
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": problem.prompt}],
            "max_tokens": TOKENS,
            "temperature": 1.0,
            **({} if seed is None else {"seed": seed + number}),
            "control": {"search": {"method": "align", "target": target(name, problem), **search}},
        }
        for number, problem in enumerate(of)
    ]
    return Spent.of(*turns.answers(url, bodies, "/v1/chat/completions"))


def measure_lockstep(
    server: LocalServer, settings: lockstep.Settings, rounds: int, steps: int
) -> dict[int, list[tuple[Spent, lockstep.Walked]]]:
    """Rounds of ours and of the loop in lock-step on the same prompts, by number of chains."""
    most = max(SIZES) // CHAINS
    everyone = puzzles.chosen(rounds * most)
    theirs = [
        lockstep.Asked(prompt, regex(problem))
        for prompt, problem in zip(
            puzzles.prompts(Path(settings.model), everyone), everyone, strict=True
        )
    ]
    with turns.stopped(server):
        loop = lockstep.Process(settings)
    found: dict[int, list[tuple[Spent, lockstep.Walked]]] = {size: [] for size in SIZES}
    drawing = random.Random(0)
    with loop:
        with turns.stopped(server):  # warms up
            loop.walk(theirs[:1] * CHAINS, 2)
        asked(server.url, REWARD, everyone[:1], steps=2, chains=CHAINS)
        for number in range(rounds):
            for size in drawing.sample(SIZES, len(SIZES)):
                part = slice(number * most, number * most + size // CHAINS)
                ours_first = drawing.random() < 0.5
                if ours_first:
                    spent = asked(server.url, REWARD, everyone[part], steps=steps, chains=CHAINS)
                with turns.stopped(server):
                    walked = loop.walk(theirs[part] * CHAINS, steps)
                if not ours_first:
                    spent = asked(server.url, REWARD, everyone[part], steps=steps, chains=CHAINS)
                assert spent.steps == walked.steps == size * steps
                found[size].append((spent, walked))
                print(
                    f"{size} chains: {spent.steps / spent.seconds:.1f} steps a second, in "
                    f"lock-step {walked.steps / walked.seconds:.1f}",
                    flush=True,
                )
    return found


def measure_ahead(url: str, count: int, steps: int) -> dict[str, list[Pair[Spent]]]:
    """A chain of each problem without look-ahead and with it, by target."""
    everyone = puzzles.chosen(count)
    found: dict[str, list[Pair[Spent]]] = {}
    for name in (POWER, REWARD, LIKELIHOOD):
        asked(url, name, everyone[:1], 0, steps=4)  # warms up
        pairs = found[name] = []
        for number, problem in enumerate(everyone):
            spent = {}
            # Who goes first alternates.
            for ahead in (1, None) if number % 2 else (None, 1):
                fields = {"steps": steps, "look_ahead": ahead}
                spent[ahead] = asked(url, name, [problem], 1000 * (number + 1), **fields)
            pairs.append((spent[1], spent[None]))
            print(
                f"{name}: {spent[1].seconds:.2f} s, with look-ahead {spent[None].seconds:.2f} s, "
                f"{spent[1].accepted} of {spent[1].steps} accepted",
                flush=True,
            )
    return found


def estimate(of: Sequence[T], statistic: Callable[[Sequence[T]], float]) -> dict[str, Any]:
    """A statistic of some observations, with its 95 % bootstrap interval."""
    drawing = random.Random(0)
    found = [statistic(drawing.choices(of, k=len(of))) for _ in range(2000)]
    low, *_, high = statistics.quantiles(found, n=40)
    return {"ratio": round(statistic(of), 4), "interval": [round(low, 4), round(high, 4)]}


def faster(pairs: Sequence[Pair[Any]]) -> float:
    """Seconds of the first ones over seconds of the second ones."""
    return sum(one.seconds for one, _ in pairs) / sum(two.seconds for _, two in pairs)


def bound(pairs: Sequence[Pair[Spent]]) -> float:
    """Most that looking ahead can gain: tokens that waited for one another without it, over those
    with it."""
    return sum(one.sequential for one, _ in pairs) / sum(two.sequential for _, two in pairs)


def share(pairs: Sequence[Pair[Spent]]) -> float:
    """Gain of looking ahead as a share of the bound."""
    return faster(pairs) / bound(pairs)


def compared_lockstep(
    found: Mapping[int, Sequence[tuple[Spent, lockstep.Walked]]],
) -> dict[str, Any]:
    """Steps a second of both sides, by number of chains."""
    return {
        str(size): {
            "steps_a_second_over_lockstep": {
                **estimate([(theirs, ours) for ours, theirs in rounds], faster),
                "aim": AIMS["lockstep"],
            },
            "ours": side([ours for ours, _ in rounds]),
            "lockstep": side([theirs for _, theirs in rounds]),
        }
        for size, rounds in found.items()
    }


def side(spent: Sequence[Any]) -> dict[str, float]:
    """One side in numbers."""
    steps = sum(one.steps for one in spent)
    return {
        "steps_a_second": round(steps / sum(one.seconds for one in spent), 2),
        "acceptance": round(sum(one.accepted for one in spent) / steps, 3),
        "sampled_a_step": round(sum(one.sampled for one in spent) / steps, 2),
    }


def compared_ahead(found: Mapping[str, Sequence[Pair[Spent]]]) -> dict[str, Any]:
    """Gain of looking ahead and the cost of a step, by target."""
    return {
        name: {
            "chains": len(pairs),
            "same_chains": sum(
                (one.accepted, one.resampled) == (two.accepted, two.resampled) for one, two in pairs
            ),
            "acceptance": round(
                sum(one.accepted for one, _ in pairs) / sum(one.steps for one, _ in pairs), 3
            ),
            "speed_over_look_ahead_1": estimate(pairs, faster),
            "bound": estimate(pairs, bound),
            "share_of_bound": {**estimate(pairs, share), "aim": AIMS["share"]},
            "sampled_a_step_with_look_ahead": round(
                sum(two.sampled for _, two in pairs) / sum(two.steps for _, two in pairs), 2
            ),
            **a_step([one for one, _ in pairs]),
        }
        for name, pairs in found.items()
    }


def a_step(spent: Sequence[Spent]) -> dict[str, Any]:
    """Tokens of a step without look-ahead."""
    steps = sum(one.steps for one in spent)
    return {
        "sampled_a_step": round(sum(one.resampled for one in spent) / steps, 2),
        "kept_a_step": round(sum(one.reused for one in spent) / steps, 2),
        "prefilled_a_response": {
            "mean": round(
                sum(one.prefilled for one in spent) / sum(one.launched for one in spent), 2
            ),
            "aim": AIMS["prefill"],
        },
    }


def rows(found: Mapping[str, Any]) -> Iterator[str]:
    """Rows of the table in docs/benchmarks.md."""

    def shown(one: Mapping[str, Any]) -> str:
        low, high = one["interval"]
        return f"{one['ratio']:.3g} ({low:.3g}–{high:.3g})"

    for size, one in found["chains"].items():
        yield (
            f"| {size} chains: steps a second, over lock-step "
            f"({one['lockstep']['steps_a_second']:.3g}) | "
            f"{shown(one['steps_a_second_over_lockstep'])} | ≥ 1.5 |"
        )
    for name, one in found["look_ahead"].items():
        yield (
            f"| one chain, {name} (acceptance {one['acceptance']:.2f}): look-ahead over none | "
            f"{shown(one['speed_over_look_ahead_1'])}, of at most {one['bound']['ratio']:.3g}: "
            f"{shown(one['share_of_bound'])} of it | ≥ 0.8 of it |"
        )
        yield (
            f"| a step of {name}: tokens sampled, kept; prefilled | {one['sampled_a_step']:.3g}, "
            f"{one['kept_a_step']:.3g}; {one['prefilled_a_response']['mean']:.3g} | "
            f"prefilled < {BLOCK} |"
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="against lock-step")
    parser.add_argument("--steps", type=int, default=10, help="of each chain in a round")
    parser.add_argument("--problems", type=int, default=6, help="with and without look-ahead")
    parser.add_argument("--walk", type=int, default=24, help="steps of a chain with look-ahead")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    with models.ConsoleProgress() as progress:
        directory = models.prepare(MODEL, progress=progress)
    settings = lockstep.Settings(str(directory), options.dtype, SEQUENCES, BLOCK, TOKENS, BETA)
    log = Path(tempfile.mkdtemp(prefix="align-")) / "server"
    arguments = [MODEL, "--dtype", options.dtype, "--block-size", str(BLOCK)]
    arguments += ["--max-num-seqs", str(SEQUENCES), "--max-branches", str(SEQUENCES)]
    with LocalServer.steersman(arguments, log, {"VLLM_LOGGING_LEVEL": "WARNING"}) as server:
        chains = measure_lockstep(server, settings, options.rounds, options.steps)
        ahead = measure_ahead(server.url, options.problems, options.walk)
    found = {"chains": compared_lockstep(chains), "look_ahead": compared_ahead(ahead)}
    report.write(
        "align",
        {
            "what": "chains of align over lock-step, and over themselves without look-ahead",
            "model": MODEL,
            "dtype": options.dtype,
            "most_tokens": TOKENS,
            "chains_of_a_prompt": CHAINS,
            "rounds": options.rounds,
            "steps": options.steps,
            "steps_with_look_ahead": options.walk,
            **found,
        },
    )
    print(*rows(found), sep="\n")


if __name__ == "__main__":
    main()
