"""What watching every request costs over HTTP: throughput with the monitor over that without.

One server answers the same 32 requests at once, again and again: without a control, monitored, and
with vLLM's own `logprobs`, one number a token. The kinds take turns, seconds apart, in an order
that changes every round, so that what else the machine does hits all alike; a ratio is of one
round. `monitor_steps.py` has the engine's part alone.

    python benchmarks/monitor.py [--rounds 12]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import report

from steersman import models
from steersman.local import LocalServer

REQUESTS = 32
TOKENS = {"smollm2": 48, "reasoner": 256}
NONE = "none"
KINDS: dict[str, dict[str, Any]] = {
    NONE: {},
    "monitored": {"control": {"monitor": {}}},
    "monitored, every token listed": {"control": {"monitor": {"tokens": True}}},
    "budget": {"control": {"thinking": {"budget": 900}}},
    "logprobs": {"logprobs": 1},
}
AIMS = {"monitored": ">= 0.97"}


async def seconds(url: str, model: str, kind: str) -> float:
    """How long the server takes for all requests."""

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        body = {
            "model": model,
            "prompt": f"{number + 11}+9*3-8=?",
            "max_tokens": TOKENS[model],
            "ignore_eos": True,
            "seed": number,
            **KINDS[kind],
        }
        answer = await client.post("/v1/completions", json=body)
        answer.raise_for_status()
        content = answer.json()
        assert content["usage"]["completion_tokens"] == TOKENS[model]
        assert ("entropy" in content.get("control", {})) == kind.startswith("monitored")

    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        started = time.perf_counter()
        await asyncio.gather(*(ask(client, number) for number in range(REQUESTS)))
        return time.perf_counter() - started


def measure(model: str, rounds: int) -> dict[str, Any]:
    """All kinds on one model."""
    with models.ConsoleProgress() as progress:
        models.prepare(model, progress=progress)
    kinds = [kind for kind in KINDS if kind != "budget" or model == "reasoner"]
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    log = Path(tempfile.mkdtemp(prefix="monitor-")) / "server"
    arguments = [model, "--max-num-seqs", str(REQUESTS), "--max-logprobs", "1"]
    server = LocalServer.steersman(arguments, log, {"VLLM_LOGGING_LEVEL": "WARNING"})
    with server:
        for number in range(-1, rounds):
            turn = number % len(kinds)
            for kind in kinds[turn:] + kinds[:turn]:
                found = asyncio.run(seconds(server.url, model, kind))
                if number >= 0:  # the first round warms up
                    taken[kind].append(found)
            print(model, number, {kind: times[-1:] for kind, times in taken.items()}, flush=True)
    tokens = REQUESTS * TOKENS[model]
    return {
        NONE: {"tokens_per_second": round(tokens / statistics.median(taken[NONE]), 1)},
        **{
            kind: {
                "ratio_of_totals": round(sum(taken[NONE]) / sum(taken[kind]), 4),
                "ratio_by_rounds": report.spread(
                    [x / y for x, y in zip(taken[NONE], taken[kind], strict=True)]
                ),
                **({"aim": AIMS[kind]} if kind in AIMS else {}),
            }
            for kind in kinds
            if kind != NONE
        },
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    report.write(
        "monitor",
        {
            "what": "throughput over HTTP of 32 requests at once that are watched, over the same "
            "without a control",
            "requests": REQUESTS,
            "tokens_a_request": TOKENS,
            "rounds": rounds,
            "models": {model: measure(model, rounds) for model in TOKENS},
        },
    )


if __name__ == "__main__":
    main()
