"""Latency of First Finish Search: its time over that of the first of the same samples.

For each seed, eight requests with the seeds that the branches would have run side by side with
nothing cancelled, and the time is taken when the first of them has finished; then one request
searches with n = 8. The search should take no longer: it does the same work and stops.

    python benchmarks/first_finish.py [--seeds 12]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import report

from steersman.local import LocalServer
from steersman_client import AsyncSteersman, ControlSpec, FirstFinish

MODEL = "smollm2"
BRANCHES = 8
CONTROL = ControlSpec(search=FirstFinish(method="first_finish", n=BRANCHES))
PROMPT = "Say hello and ask me how I am."
MAX_TOKENS = 200


async def ask(client: AsyncSteersman, seed: int, control: ControlSpec | None) -> Any:
    return await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": PROMPT}],
        seed=seed,
        temperature=1.0,
        top_p=1.0,
        max_tokens=MAX_TOKENS,
        control=control,
    )


async def first_of_all(client: AsyncSteersman, seed: int) -> tuple[float, float, int]:
    """Seconds to the first finished sample and to the last, and the tokens of the first."""
    started = time.perf_counter()
    first: tuple[float, int] | None = None

    async def sample(branch: int) -> None:
        nonlocal first
        answer = await ask(client, seed + branch, None)
        if first is None and answer.choices[0].finish_reason == "stop":
            first = time.perf_counter() - started, answer.usage.completion_tokens

    await asyncio.gather(*(sample(branch) for branch in range(BRANCHES)))
    assert first is not None, f"no sample of seed {seed} finished in {MAX_TOKENS} tokens"
    return first[0], time.perf_counter() - started, first[1]


async def search(client: AsyncSteersman, seed: int) -> tuple[float, int, int]:
    """Seconds to the answer, its tokens, and the tokens of cancelled branches."""
    started = time.perf_counter()
    answer = await ask(client, seed, CONTROL)
    seconds = time.perf_counter() - started
    return seconds, answer.usage.completion_tokens, answer.control.compute.cancelled_tokens


async def measure(url: str, seeds: int) -> dict[str, Any]:
    ratios: list[float] = []
    of_all: list[float] = []
    same_length = 0
    async with AsyncSteersman(base_url=f"{url}/v1", timeout=300) as client:
        await search(client, 0)
        for seed in range(1, seeds + 1):
            # Who goes first alternates, so that neither always finds the warmer machine.
            if seed % 2:
                first, every, tokens = await first_of_all(client, 100 * seed)
                found, length, cancelled = await search(client, 100 * seed)
            else:
                found, length, cancelled = await search(client, 100 * seed)
                first, every, tokens = await first_of_all(client, 100 * seed)
            ratios.append(found / first)
            of_all.append(found / every)
            same_length += tokens == length
            print(
                f"seed {seed}: search {found:.2f} s, first {first:.2f} s, all {every:.2f} s, "
                f"{length} tokens, {cancelled} cancelled",
                flush=True,
            )
    return {
        "what": "time to answer of first_finish n = 8, over the first of the same samples",
        "seeds": seeds,
        "ratio": report.spread(ratios),
        "geometric_mean": round(statistics.geometric_mean(ratios), 4),
        "over_waiting_for_all": report.spread(of_all),
        "winner_as_long_as_the_first_sample": same_length,
        "aim": "<= 1.1",
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=12)
    seeds = parser.parse_args().seeds
    log = Path(tempfile.mkdtemp(prefix="first-finish-")) / "server"
    with LocalServer.steersman(
        [MODEL, "--enforce-eager"], log, {"VLLM_LOGGING_LEVEL": "WARNING"}
    ) as server:
        report.write("first_finish", asyncio.run(measure(server.url, seeds)))


if __name__ == "__main__":
    main()
