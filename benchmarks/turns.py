"""Loads that take turns: each is a batch of requests sent at once, over HTTP, again and again.

The turns are seconds apart, in an order that changes every round, so that what else the machine
does hits all alike; a ratio is of one round.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import report


def answers(url: str, bodies: Sequence[Mapping[str, Any]]) -> tuple[float, list[dict[str, Any]]]:
    """Send all at once: the seconds until all are answered, and the answers."""

    async def ask(client: httpx.AsyncClient, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await client.post("/v1/completions", json=body)
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        assert content["usage"]["completion_tokens"] == body["max_tokens"]
        return content

    async def ask_all() -> tuple[float, list[dict[str, Any]]]:
        async with httpx.AsyncClient(base_url=url, timeout=600) as client:
            started = time.perf_counter()
            found = await asyncio.gather(*(ask(client, body) for body in bodies))
            return time.perf_counter() - started, found

    return asyncio.run(ask_all())


def take(
    loads: Mapping[str, Callable[[], float]], rounds: int, pause: float = 0.0
) -> dict[str, list[float]]:
    """Seconds of each load in each round; a round before the first one warms up.

    Args:
        loads: By name.
        rounds: How often each is taken.
        pause: Seconds before each load. Where servers take turns the one before needs them: vLLM's
            processes spin for a while when they have nothing left to do.

    """
    names = list(loads)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        turn = number % len(names)
        found = {}
        for name in names[turn:] + names[:turn]:
            time.sleep(pause)
            found[name] = loads[name]()
        for name, seconds in found.items() if number >= 0 else ():
            taken[name].append(seconds)
        print(number, {name: round(found[name], 3) for name in names}, flush=True)
    return taken


def compared(
    taken: Mapping[str, Sequence[float]], base: str, aims: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Throughput of each load over that of `base`."""
    return {
        name: {
            "ratio_of_totals": round(sum(taken[base]) / sum(seconds), 4),
            "ratio_by_rounds": report.spread(
                [x / y for x, y in zip(taken[base], seconds, strict=True)]
            ),
            **({"aim": aims[name]} if name in aims else {}),
        }
        for name, seconds in taken.items()
        if name != base
    }
