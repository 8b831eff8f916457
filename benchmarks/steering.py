"""What steering costs: throughput over the same server with no steering installed.

Both servers run at once, each on a core of its own, and are loaded at the same time for the same
time: what else the machine does slows both. All loads take their turns in every round; after each
round the servers change cores, so that neither has the better one, and after two another load comes
first. The result of a load is the geometric mean of its ratios, one a round.

    python benchmarks/steering.py [--rounds 8] [--seconds 20]
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import report

from steersman import models
from steersman.local import LocalServer
from steersman.vectors import file
from steersman.vectors.vector import Vector, VectorMetadata

MODEL = "smollm2"
HIDDEN, LAYERS = 576, 30
FLAGS = ["--max-num-seqs", "32", "--steering-rows", "64"]
CORES = ("0", "1")
WARM_UP_SECONDS = 5.0
CONCURRENCY = 32
TOKENS = 32
VECTORS = tuple("abcd")

Steer = Callable[[int], list[dict[str, Any]]]
"""The `control.steer` of each request, by its number."""

LOADS: dict[str, tuple[Steer | None, str]] = {
    "none steered": (None, ">= 0.99"),
    "one configuration": (lambda _: [{"vector": "a", "strength": 0.1}], ">= 0.97"),
    "four vectors each": (
        lambda _: [{"vector": name, "strength": 0.05} for name in VECTORS],
        ">= 0.97",
    ),
    "32 configurations": (
        lambda number: [{"vector": "a", "strength": 0.1 + number / 1000}],
        ">= 0.97",
    ),
}


async def load(url: str, steer: Steer | None, seconds: float) -> float:
    """Tokens per second of a server that always has `CONCURRENCY` requests, streamed.

    Counted are the tokens that arrive between the end of the warm-up and the end.
    """
    started = time.perf_counter()
    counted = 0

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        nonlocal counted
        turn = 0
        while time.perf_counter() - started < WARM_UP_SECONDS + seconds:
            turn += 1
            body: dict[str, Any] = {
                "model": MODEL,
                "prompt": f"Number {number}, turn {turn}, is",
                # Not all at once: they would all prefill at once ever after.
                "max_tokens": TOKENS if turn > 1 else 1 + number,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            }
            if steer is not None:
                body["control"] = {"steer": steer(number)}
            async with client.stream("POST", "/v1/completions", json=body) as answer:
                answer.raise_for_status()
                known, rest = 0, b""
                async for data in answer.aiter_bytes():
                    *events, rest = (rest + data).split(b"\n\n")
                    now = time.perf_counter() - started - WARM_UP_SECONDS
                    for event in events:
                        if event.startswith(b"data: {"):
                            # One chunk may bring several tokens.
                            usage = json.loads(event.removeprefix(b"data: ")).get("usage") or {}
                            new = usage.get("completion_tokens", known) - known
                            known += new
                            counted += new if 0 <= now < seconds else 0

    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        await asyncio.gather(*(ask(client, number) for number in range(CONCURRENCY)))
    return counted / seconds


async def both(
    plain: str, steering: str, steer: Steer | None, seconds: float
) -> tuple[float, float]:
    """Both servers under load at the same time."""
    found = await asyncio.gather(load(plain, None, seconds), load(steering, steer, seconds))
    return found[0], found[1]


def pinned(core: str, arguments: list[str], log: Path) -> LocalServer:
    """A server whose processes all stay on one core."""
    environment = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_OMP_THREADS_BIND": core}
    command = ["taskset", "-c", core, sys.executable, "-m", "steersman", "serve", MODEL, *FLAGS]
    return LocalServer([*command, *arguments], log, environment)


def write_vectors(directory: Path) -> None:
    """Weak random vectors for every layer: what is measured does not depend on their direction."""
    rng = np.random.default_rng(0)
    metadata = VectorMetadata(site="layer", method="random")
    for name in VECTORS:
        layers = {i: rng.normal(size=HIDDEN).astype(np.float32) * 0.01 for i in range(LAYERS)}
        (directory / f"{name}.safetensors").write_bytes(file.write(Vector(layers, metadata)))


def move(server: LocalServer, core: str) -> None:
    """Put every thread of a server on a core."""
    for process in (server.process_id, *server.children()):
        for thread in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(int(thread.name), {int(core)})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="an even number")
    parser.add_argument("--seconds", type=float, default=20, help="of each load, in each round")
    options = parser.parse_args()
    with models.ConsoleProgress() as progress:
        models.prepare(MODEL, progress=progress)
    scratch = Path(tempfile.mkdtemp(prefix="steering-"))
    write_vectors(scratch)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in LOADS}
    with (
        pinned(CORES[0], ["--no-steering"], scratch / "plain") as plain,
        pinned(CORES[1], ["--vectors", str(scratch)], scratch / "steering") as ours,
    ):
        for number in range(options.rounds):
            for server, core in zip((plain, ours), CORES[:: (-1) ** number], strict=True):
                move(server, core)
            first = number // 2 % len(LOADS)
            for name in (*LOADS, *LOADS)[first : first + len(LOADS)]:
                steer, _ = LOADS[name]
                pair = asyncio.run(both(plain.url, ours.url, steer, options.seconds))
                rates[name].append(pair)
                print(f"round {number}: {name}: plain {pair[0]:.1f}, steering {pair[1]:.1f}")
                sys.stdout.flush()
    report.write(
        "steering",
        {
            "what": "throughput with steering over the same server started with --no-steering",
            "concurrency": CONCURRENCY,
            "tokens_a_request": TOKENS,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "loads": {name: summary(pairs, LOADS[name][1]) for name, pairs in rates.items()},
        },
    )


def summary(pairs: list[tuple[float, float]], aim: str) -> dict[str, Any]:
    """What the rounds of a load come to."""
    ratios = [ours / plain for plain, ours in pairs]
    return {
        "ratio": round(math.prod(ratios) ** (1 / len(ratios)), 4),
        "aim": aim,
        "by_rounds": report.spread(ratios),
        "plain_tokens_per_second": round(statistics.mean(plain for plain, _ in pairs), 1),
        "steering_tokens_per_second": round(statistics.mean(ours for _, ours in pairs), 1),
    }


if __name__ == "__main__":
    main()
