"""Cost of Steersman for a request without control: its throughput over stock `vllm serve`.

Both servers have the same weights and flags; rounds of load alternate between them, so that a
machine that slows down slows both, and the one whose turn it is not stands still. Ours has steering
installed, as by default. Requests stream: that is where a front end works most.

    python benchmarks/passthrough.py [--rounds 8]
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import report
import turns

from steersman import models
from steersman.local import LocalServer

MODEL = "smollm2"
FLAGS = ["--served-model-name", MODEL, "--block-size", "32", "--enforce-eager"]
FLAGS += ["--no-enable-chunked-prefill"]  # a server on a CPU refuses the other
# Faster than bfloat16 on most CPUs, so that more of the time is the front end's.
FLAGS += ["--dtype", "float32"]
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "600",  # a connection may wait between two requests
    # Both as vLLM has it: what ours gains where cores are few is for `cores.py` to say.
    "STEERSMAN_NAP_WHILE_WAITING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "auto",
}
CONCURRENCY = 16
REQUESTS = 48
TOKENS = 48


async def tokens_per_second(url: str) -> float:
    """One round of load, a new set of prompts for each request."""
    gate = asyncio.Semaphore(CONCURRENCY)
    async with httpx.AsyncClient(timeout=300) as client:

        async def ask(number: int) -> None:
            body = {
                "model": MODEL,
                "messages": [{"role": "user", "content": f"Tell me about the number {number}."}],
                "max_tokens": TOKENS,
                "ignore_eos": True,
                "temperature": 1.0,
                "top_p": 1.0,
                "stream": True,
            }
            async with (
                gate,
                client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer,
            ):
                answer.raise_for_status()
                chunks = sum(
                    [1 async for line in answer.aiter_lines() if line.startswith("data: {")]
                )
                assert chunks >= TOKENS, chunks

        started = time.perf_counter()
        await asyncio.gather(*(ask(number) for number in range(REQUESTS)))
        return REQUESTS * TOKENS / (time.perf_counter() - started)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="rounds for each server")
    rounds = parser.parse_args().rounds
    with models.ConsoleProgress() as progress:
        directory = str(models.prepare(MODEL, progress=progress))
    logs = Path(tempfile.mkdtemp(prefix="passthrough-"))
    # What `vllm serve` runs with one API server; the command itself does not know vllm-cpu.
    vllm = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"]
    vllm += ["--model", directory, *FLAGS]
    with (
        LocalServer(vllm, logs / "vllm", ENVIRONMENT) as stock,
        LocalServer.steersman([directory, *FLAGS], logs / "steersman", ENVIRONMENT) as ours,
    ):
        servers = {"vllm": stock, "steersman": ours}
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for name, server in servers.items():
            print(f"warming up {name}", flush=True)
            asyncio.run(tokens_per_second(server.url))
        for number in range(rounds):
            # Who goes first alternates as well.
            for name in sorted(servers, reverse=bool(number % 2)):
                other = next(servers[one] for one in servers if one != name)
                with turns.stopped(other):
                    rates[name].append(asyncio.run(tokens_per_second(servers[name].url)))
                print(f"round {number}: {name} {rates[name][-1]:.1f} tok/s", flush=True)
    ratios = [a / b for a, b in zip(rates["steersman"], rates["vllm"], strict=True)]
    report.write(
        "passthrough",
        {
            "what": "throughput without control, steersman over vllm serve",
            "concurrency": CONCURRENCY,
            "requests_a_round": REQUESTS,
            "tokens_a_request": TOKENS,
            "tokens_per_second": {name: report.spread(values) for name, values in rates.items()},
            "ratio_of_totals": round(
                statistics.harmonic_mean(rates["steersman"])
                / statistics.harmonic_mean(rates["vllm"]),
                4,
            ),
            "ratio_of_rounds": report.spread(ratios),
            "rounds": rounds,
            "interval_of_medians": turns.interval(
                [1 / rate for rate in rates["vllm"]], [1 / rate for rate in rates["steersman"]]
            ),
            "aim": ">= 0.97",
        },
    )


if __name__ == "__main__":
    main()
