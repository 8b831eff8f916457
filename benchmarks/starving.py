"""Latency of a plain client beside a greedy one: its p95 over that beside 16 plain streams.

One client asks the built-in reasoner for 64 tokens, again and again. Beside it, in turns, run

- 16 clients, each with one plain stream after another;
- one client whose every request has 16 branches (`majority`);
- the same one, whose key lets it have one request of four branches at a time: it has four loops of
  such requests, and tries again when the server's `Retry-After` says so.

Who comes when is drawn anew for each round. The company has a process of its own, which is ended
after its turn, so that its clients hang up.

    python benchmarks/starving.py [--rounds 6] [--sequences 64]
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import puzzles
import report

from steersman.local import LocalServer

MODEL = "reasoner"
TOKENS = 64
"""Of an answer to the plain client."""
MOST_TOKENS = 448
"""Of an answer to its company, which ends where the model ends it."""
SECONDS = 10.0
"""Of a turn."""
STARTING_SECONDS = 60.0
PLAIN, GREEDY, LIMITED = "sk-plain", "sk-greedy", "sk-limited"
KEYS: list[dict[str, Any]] = [
    {"name": "plain", "key": PLAIN},
    {"name": "greedy", "key": GREEDY},
    {"name": "limited", "key": LIMITED, "limits": {"concurrency": 1, "fan_out": 4}},
]
RUNNING, SAMPLED = "vllm:num_requests_running", "vllm:generation_tokens_total"
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Company:
    """Clients that keep the server busy.

    Attributes:
        key: Their key.
        clients: Loops of requests.
        fields: Of each request.
        running: Engine requests of theirs by which their turn begins.

    """

    key: str
    clients: int
    fields: Mapping[str, Any]
    running: int


def _searching(branches: int) -> dict[str, Any]:
    return {"control": {"search": {"method": "majority", "n": branches}}}


BASE = "beside 16 plain streams"
COMPANY = {
    BASE: Company(GREEDY, 16, {"stream": True}, 16),
    "beside one client with n = 16": Company(GREEDY, 1, _searching(16), 16),
    "the same, its key limited to one request of four branches": Company(
        LIMITED, 4, _searching(4), 4
    ),
}
AIMS = {"beside one client with n = 16": "<= 2"}


@dataclass(frozen=True, slots=True)
class Answered:
    """A request of the plain client.

    Attributes:
        first: Seconds to its first token.
        whole: Seconds to its end.

    """

    first: float
    whole: float


async def _latencies(url: str, turn: int) -> list[Answered]:
    """Ask one request after another for a turn."""
    found: list[Answered] = []
    headers = {"Authorization": f"Bearer {PLAIN}"}
    body = {"model": MODEL, "max_tokens": TOKENS, "ignore_eos": True, "temperature": 1.0}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600) as client:
        ends = time.perf_counter() + SECONDS
        for number in itertools.count():
            began = time.perf_counter()
            if began >= ends:
                return found
            fields = {"prompt": f"{turn}{number:03}+9*3-8=?", "stream": True}
            first = None
            async with client.stream("POST", "/v1/completions", json=body | fields) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    if first is None and line.startswith("data: {"):
                        first = time.perf_counter() - began
            assert first is not None
            found.append(Answered(first, time.perf_counter() - began))
    raise AssertionError


async def _keep_busy(url: str, company: Company, turn: int) -> None:
    """Ask until the process is ended."""
    prompts = [problem.prompt for problem in puzzles.chosen(512)]
    random.Random(turn).shuffle(prompts)
    asked = itertools.cycle(prompts)
    headers = {"Authorization": f"Bearer {company.key}"}

    async def ask(client: httpx.AsyncClient) -> None:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": next(asked)}],
            "max_tokens": MOST_TOKENS,
            "temperature": 1.0,
            **company.fields,
        }
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                await answer.aread()
                await asyncio.sleep(float(answer.headers["retry-after"]))
                return
            answer.raise_for_status()
            async for _ in answer.aiter_raw():
                pass

    async with (
        httpx.AsyncClient(base_url=url, headers=headers, timeout=600) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(company.clients):
            group.create_task(_repeated(ask, client))


async def _repeated(ask: Callable[[httpx.AsyncClient], Any], client: httpx.AsyncClient) -> None:
    while True:
        await ask(client)


def _busy(url: str, company: Company, turn: int) -> None:
    asyncio.run(_keep_busy(url, company, turn))


def take_turn(server: LocalServer, company: Company, turn: int) -> tuple[list[Answered], float]:
    """The plain client's requests beside this company, and the tokens a second that it sampled.

    Raises:
        RuntimeError: The company does not get going, or has ended.

    """
    process = multiprocessing.get_context("spawn").Process(
        target=_busy, args=(server.url, company, turn), daemon=True
    )
    process.start()
    try:
        deadline = time.monotonic() + STARTING_SECONDS
        while server.metric(RUNNING) < company.running:
            if not process.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"too little runs beside the plain client: {company}")
        began, before = time.perf_counter(), server.metric(SAMPLED)
        found = asyncio.run(_latencies(server.url, turn))
        sampled = server.metric(SAMPLED) - before - TOKENS * len(found)
        rate = sampled / (time.perf_counter() - began)
        if not process.is_alive():
            raise RuntimeError(f"the company has ended: {company}")
    finally:
        process.terminate()
        process.join()
    if not server.wait_for_metric(RUNNING, 0, STARTING_SECONDS):
        raise RuntimeError("requests of clients that hung up run on")
    return found, rate


T = TypeVar("T")


def in_turns(
    names: Sequence[str], take: Callable[[str, int], T], rounds: int
) -> dict[str, list[T]]:
    """Something of each name in each round; a round before the first one warms up.

    Args:
        names: The names.
        take: Called with a name and the number of the turn.
        rounds: How often each has its turn.

    """
    drawing = random.Random(0)
    orders = [drawing.sample(names, len(names)) for _ in range(rounds + 1)]
    taken: dict[str, list[T]] = {name: [] for name in names}
    for turn, name in enumerate(itertools.chain.from_iterable(orders)):
        found = take(name, turn)
        if turn >= len(names):
            taken[name].append(found)
    return taken


def p95(rounds: Sequence[Sequence[float]]) -> float:
    """95th percentile of all values of some rounds."""
    values = list(itertools.chain.from_iterable(rounds))
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def compared(
    own: Sequence[Sequence[float]], base: Sequence[Sequence[float]]
) -> dict[str, float | list[float]]:
    """Ratio of 95th percentiles, `own` over `base`, with a 95 % bootstrap interval over rounds."""
    drawing, found = random.Random(0), []
    pairs = list(zip(own, base, strict=True))
    for _ in range(_RESAMPLES):
        mine, theirs = zip(*drawing.choices(pairs, k=len(pairs)), strict=True)
        found.append(p95(mine) / p95(theirs))
    low, *_, high = statistics.quantiles(found, n=40)
    return {
        "ratio": round(p95(own) / p95(base), 4),
        "interval": [round(low, 4), round(high, 4)],
    }


def summary(
    taken: Mapping[str, Sequence[tuple[Sequence[Answered], float]]], base: str
) -> dict[str, dict[str, Any]]:
    """Numbers of each company, and those of the others over those of `base`."""
    whole = {name: [[one.whole for one in turn] for turn, _ in own] for name, own in taken.items()}
    first = {name: [[one.first for one in turn] for turn, _ in own] for name, own in taken.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, own in taken.items():
        values = list(itertools.chain.from_iterable(whole[name]))
        found[name] = {
            "requests": len(values),
            "seconds_p95": round(p95(whole[name]), 4),
            "seconds": report.spread(values),
            "first_token_seconds_p95": round(p95(first[name]), 4),
            "company_tokens_per_second": round(statistics.mean(rate for _, rate in own), 1),
        }
        if name != base:
            found[name]["p95"] = compared(whole[name], whole[base])
            found[name]["first_token_p95"] = compared(first[name], first[base])
        if name in AIMS:
            found[name]["aim"] = AIMS[name]
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--sequences", type=int, default=64, help="that the engine runs at a time")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="starving-"))
    keys = directory / "keys.yaml"
    keys.write_text(json.dumps(KEYS))  # which is YAML too
    arguments = [MODEL, f"--max-num-seqs={options.sequences}", f"--keys={keys}", "--open-metrics"]
    environment = {"VLLM_LOGGING_LEVEL": "WARNING"}
    with LocalServer.steersman(arguments, directory / "server", environment) as server:

        def take(name: str, turn: int) -> tuple[list[Answered], float]:
            found, rate = take_turn(server, COMPANY[name], turn)
            middle = statistics.median(one.whole for one in found)
            print(f"{turn} {name}: {len(found)} requests, median {middle:.3f} s", flush=True)
            return found, rate

        taken = in_turns(list(COMPANY), take, options.rounds)
    report.write(
        "starving",
        {
            "what": "p95 of the latency of a plain client, by its company",
            "model": MODEL,
            "tokens_a_request": TOKENS,
            "sequences": options.sequences,
            "rounds": options.rounds,
            "seconds_a_turn": SECONDS,
            "company": summary(taken, BASE),
        },
    )


if __name__ == "__main__":
    main()
