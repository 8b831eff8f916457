"""Loads that take turns: each is a batch of requests sent at once, over HTTP, again and again.

They come in an order that is drawn anew every round, so that what else the machine does, and what
one load leaves behind for the next, hits all alike; a ratio is of one round.
"""

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx
import psutil
import report

from steersman.local import LocalServer


def answers(
    url: str, bodies: Sequence[Mapping[str, Any]], path: str = "/v1/completions"
) -> tuple[float, list[dict[str, Any]]]:
    """Send all at once: the seconds until all are answered, and the answers."""

    async def ask(client: httpx.AsyncClient, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await client.post(path, json=body)
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        tokens = content["usage"]["completion_tokens"]
        assert tokens == body["max_tokens"] or not body.get("ignore_eos")
        return content

    async def ask_all() -> tuple[float, list[dict[str, Any]]]:
        async with httpx.AsyncClient(base_url=url, timeout=600) as client:
            started = time.perf_counter()
            found = await asyncio.gather(*(ask(client, body) for body in bodies))
            return time.perf_counter() - started, found

    return asyncio.run(ask_all())


@contextlib.contextmanager
def stopped(server: LocalServer) -> Iterator[None]:
    """A server stands still: vLLM's processes spin for a while when they have nothing left to do,
    at the cost of the server whose turn it is."""
    ids = (server.process_id, *server.children())
    processes = [psutil.Process(id_) for id_ in ids]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def take(loads: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each load in each round; a round before the first one warms up.

    Args:
        loads: By name.
        rounds: How often each is taken.

    """
    names = list(loads)
    taken: dict[str, list[float]] = {name: [] for name in names}
    drawing = random.Random(0)
    for number in range(-1, rounds):
        found = {name: loads[name]() for name in drawing.sample(names, len(names))}
        for name, seconds in found.items() if number >= 0 else ():
            taken[name].append(seconds)
        print(number, {name: round(found[name], 3) for name in names}, flush=True)
    return taken


_RESAMPLES = 2000


def compared(
    taken: Mapping[str, Sequence[float]], base: str, aims: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Throughput of each load over that of `base`. A single disturbed load can move the ratio of
    totals by percents, and hardly moves the medians, which have a 95 % bootstrap interval over the
    rounds."""
    return {
        name: {
            "ratio_of_totals": round(sum(taken[base]) / sum(seconds), 4),
            "ratio_of_medians": round(
                statistics.median(taken[base]) / statistics.median(seconds), 4
            ),
            "interval_of_medians": interval(taken[base], seconds),
            "ratio_by_rounds": report.spread(
                [x / y for x, y in zip(taken[base], seconds, strict=True)]
            ),
            **({"aim": aims[name]} if name in aims else {}),
        }
        for name, seconds in taken.items()
        if name != base
    }


def interval(base: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """95 % bootstrap interval of the ratio of medians, `base` over `seconds`, by rounds."""
    pairs, drawing = list(zip(base, seconds, strict=True)), random.Random(0)
    found = []
    for _ in range(_RESAMPLES):
        theirs, ours = zip(*drawing.choices(pairs, k=len(pairs)), strict=True)
        found.append(statistics.median(theirs) / statistics.median(ours))
    low, *_, high = statistics.quantiles(found, n=40)
    return [round(low, 4), round(high, 4)]
