"""Cautious sampling: its speed over the published algorithm's, and its cost over plain sampling.

The published algorithm (`published.py`) draws one trial after another at batch 1; it answers fewer
problems, since it is slow, and seconds for a returned token are compared. Both sides have the same
prompts, number type and rules; they draw other random numbers, so the trials differ. A load is a
batch of requests sent at once, so its last requests run with less company. Loads come in an order
drawn beforehand, and whose turn it is not stands still.

Where no step is uncertain (a threshold above the entropy of any distribution of this vocabulary),
the sampler's throughput is compared with plain sampling, and with the monitor that it needs.

    python benchmarks/cautious.py [--problems 32] [--published 6] [--rounds 8] [--dtype float32]
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import published
import puzzles
import report
import turns

from steersman import models
from steersman.local import LocalServer
from steersman_client import Cautious

MODEL = "smollm2"
CLIENTS = 8
TOKENS = 128
SAMPLING = {"temperature": 1.2, "top_p": 0.9}
RULES = Cautious(method="cautious")
CAUTIOUS = {"sampler": {"method": "cautious"}}

PLAIN, MONITORED, CERTAIN = "plain", "monitored", "cautious, never uncertain"
CALM: dict[str, dict[str, Any] | None] = {
    PLAIN: None,
    MONITORED: {"monitor": {"of": "processed"}},
    CERTAIN: {"sampler": {"method": "cautious", "min_entropy": 12, "max_entropy": 13}},
}
"""Controls of the loads in which nothing is uncertain; ln of the vocabulary is 10.8."""
AIM = ">= 0.95"

Prompt = list[int]


@dataclass(frozen=True, slots=True)
class Spent:
    """Cost of a load.

    Attributes:
        seconds: From the first request to the last answer.
        returned: Tokens of the answers.
        sampled: Tokens drawn for them.
        branch_points: Tokens at which trials were drawn.
        trials: Trials drawn there.

    """

    seconds: float
    returned: int
    sampled: int
    branch_points: int = 0
    trials: int = 0


Load = Callable[[], Spent]


def asked(
    url: str, prompts: Sequence[Prompt], first_seed: int, control: Mapping[str, Any] | None
) -> Spent:
    """Send a request for each prompt, all at once."""
    bodies = [
        {
            "model": MODEL,
            "prompt": prompt,
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "seed": 1000 * (first_seed + number),
            **SAMPLING,
            **({"control": control} if control else {}),
        }
        for number, prompt in enumerate(prompts)
    ]
    seconds, answers = turns.answers(url, bodies)
    returned = TOKENS * len(prompts)
    if control is None or "sampler" not in control:
        return Spent(seconds, returned, returned)
    receipts = [answer["control"] for answer in answers]
    samplers = [receipt["applied"]["sampler"] for receipt in receipts]
    return Spent(
        seconds,
        returned,
        sum(receipt["compute"]["sampled_tokens"] for receipt in receipts),
        sum(sampler["branch_points"] for sampler in samplers),
        sum(sampler["trials"] for sampler in samplers),
    )


def order(loads: Mapping[str, Sequence[Load]]) -> Iterator[tuple[str, Load]]:
    """All loads, those of each kind spread evenly over the run; who goes first is drawn."""
    drawing, rounds = random.Random(0), max(map(len, loads.values()))
    for number in range(rounds):
        for kind in drawing.sample(list(loads), len(loads)):
            own = loads[kind]
            for index, load in enumerate(own):
                if index * rounds // len(own) == number:
                    yield kind, load


def measure_uncertain(
    server: LocalServer, settings: published.Settings, prompts: Sequence[Prompt], few: int
) -> dict[str, list[Spent]]:
    """Cost of each load of cautious, plain and published sampling, by kind."""
    url = server.url
    with turns.stopped(server):
        loop = published.Process(settings)

    def serving(number: int, size: int, control: Mapping[str, Any] | None) -> Load:
        return lambda: asked(url, prompts[number : number + size], number, control)

    def looping(number: int) -> Load:
        def run() -> Spent:
            with turns.stopped(server):
                found = loop.respond(prompts[number], number)
            print(f"  of which copying {found.copying:.1f} s", flush=True)
            return Spent(
                found.seconds, TOKENS, found.sampled, len(found.winners), len(found.trials)
            )

        return run

    batches, alone = range(0, len(prompts), CLIENTS), range(few)
    loads: dict[str, list[Load]] = {
        "published": [looping(number) for number in alone],
        "cautious at 1": [serving(number, 1, CAUTIOUS) for number in alone],
        "plain at 1": [serving(number, 1, None) for number in alone],
        f"cautious at {CLIENTS}": [serving(number, CLIENTS, CAUTIOUS) for number in batches],
        f"plain at {CLIENTS}": [serving(number, CLIENTS, None) for number in batches],
    }
    spent: dict[str, list[Spent]] = {kind: [] for kind in loads}
    with loop:
        for control in (None, CAUTIOUS):  # warms up
            asked(url, prompts[:CLIENTS], len(prompts), control)
        for kind, load in order(loads):
            spent[kind].append(found := load())
            print(
                f"{kind}: {found.seconds:.2f} s for {found.returned} tokens, "
                f"{found.sampled} sampled, {found.trials} trials at {found.branch_points}",
                flush=True,
            )
    return spent


def measure_calm(url: str, prompts: Sequence[Prompt], rounds: int) -> dict[str, list[float]]:
    """Seconds of each load where no step is uncertain."""

    def serving(control: Mapping[str, Any] | None) -> Callable[[], float]:
        def run() -> float:
            found = asked(url, prompts[:CLIENTS], 0, control)
            assert not found.branch_points
            return found.seconds

        return run

    return turns.take({kind: serving(control) for kind, control in CALM.items()}, rounds)


def per_token(spent: Sequence[Spent]) -> float:
    """Seconds for a returned token."""
    return sum(one.seconds for one in spent) / sum(one.returned for one in spent)


def ratio(ours: Sequence[Spent], theirs: Sequence[Spent]) -> dict[str, Any]:
    """Seconds for a returned token, ours over theirs, with a 95 % bootstrap interval over the
    loads of each."""
    drawing = random.Random(0)
    found = [
        per_token(drawing.choices(ours, k=len(ours)))
        / per_token(drawing.choices(theirs, k=len(theirs)))
        for _ in range(2000)
    ]
    low, *_, high = statistics.quantiles(found, n=40)
    return {
        "ratio": round(per_token(ours) / per_token(theirs), 4),
        "interval": [round(low, 4), round(high, 4)],
    }


def summary(spent: Sequence[Spent]) -> dict[str, Any]:
    """A kind's loads in numbers."""
    branch_points = sum(one.branch_points for one in spent)
    returned = sum(one.returned for one in spent)
    found = {
        "loads": len(spent),
        "returned_tokens": returned,
        "seconds_a_returned_token": round(per_token(spent), 5),
        "sampled_a_returned_token": round(sum(one.sampled for one in spent) / returned, 3),
    }
    if branch_points:
        found["branch_points_a_returned_token"] = round(branch_points / returned, 3)
        found["trials_a_branch_point"] = round(sum(one.trials for one in spent) / branch_points, 3)
    return found


def compared(
    spent: Mapping[str, Sequence[Spent]], calm: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """All numbers of the report."""
    sizes = (CLIENTS, 1)
    ours = {size: spent[f"cautious at {size}"] for size in sizes}
    plain = {size: spent[f"plain at {size}"] for size in sizes}
    over_monitored = {kind: calm[kind] for kind in (MONITORED, CERTAIN)}
    return {
        "loads": {kind: summary(of) for kind, of in spent.items()},
        "seconds_over_published": {
            str(size): ratio(ours[size], spent["published"]) for size in sizes
        },
        "seconds_over_plain": {str(size): ratio(ours[size], plain[size]) for size in sizes},
        "never_uncertain": {
            "tokens_per_second": round(CLIENTS * TOKENS / statistics.median(calm[PLAIN]), 1),
            "over_plain": turns.compared(calm, PLAIN, {CERTAIN: AIM}),
            "over_monitored": turns.compared(over_monitored, MONITORED, {})[CERTAIN],
        },
    }


def rows(found: Mapping[str, Any]) -> Iterator[str]:
    """Rows of the table in docs/benchmarks.md."""

    def shown(one: Mapping[str, Any]) -> str:
        low, high = one["interval"]
        return f"{one['ratio']:.3g} ({low:.3g}–{high:.3g})"

    for size, one in found["seconds_over_published"].items():
        yield f"| seconds for a returned token at {size}, over as published | {shown(one)} | |"
    for size, one in found["seconds_over_plain"].items():
        sampled = found["loads"][f"cautious at {size}"]["sampled_a_returned_token"]
        yield (
            f"| seconds for a returned token at {size}, over plain sampling | {shown(one)}, with "
            f"{sampled:.3g} tokens sampled for each | |"
        )
    calm = found["never_uncertain"]
    for what, one, aim in (
        ("plain sampling", calm["over_plain"][CERTAIN], AIM.replace(">=", "≥")),
        ("the monitor", calm["over_monitored"], ""),
    ):
        low, high = one["interval_of_medians"]
        of, by = one["ratio_of_medians"], one["ratio_by_rounds"]
        yield (
            f"| throughput where no step is uncertain, over {what} | {of:.3f} of medians "
            f"({low:.3f}–{high:.3f}); by rounds {by['median']:.3f} ({by['q1']:.3f}–{by['q3']:.3f}) "
            f"| {aim} |"
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--published", type=int, default=6, help="problems of the published loop")
    parser.add_argument("--rounds", type=int, default=8, help="where no step is uncertain")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    with models.ConsoleProgress() as progress:
        directory = models.prepare(MODEL, progress=progress)
    prompts = puzzles.prompts(directory, puzzles.chosen(options.problems))
    settings = published.Settings(
        str(directory), options.dtype, **SAMPLING, tokens=TOKENS, rules=RULES
    )
    log = Path(tempfile.mkdtemp(prefix="cautious-")) / "server"
    arguments = [MODEL, "--dtype", options.dtype]
    with LocalServer.steersman(arguments, log, {"VLLM_LOGGING_LEVEL": "WARNING"}) as server:
        spent = measure_uncertain(server, settings, prompts, options.published)
        calm = measure_calm(server.url, prompts, options.rounds)
    found = compared(spent, calm)
    report.write(
        "cautious",
        {
            "what": "cautious sampling over the published loop and over plain sampling",
            "model": MODEL,
            "dtype": options.dtype,
            **SAMPLING,
            "problems": options.problems,
            "problems_of_the_published_loop": options.published,
            "tokens_a_response": TOKENS,
            "rounds_never_uncertain": options.rounds,
            **found,
        },
    )
    print(*rows(found), sep="\n")


if __name__ == "__main__":
    main()
