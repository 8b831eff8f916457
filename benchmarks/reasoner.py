"""Throughput of the built-in reasoner: 64 requests at a time, plain, thinking included.

python benchmarks/reasoner.py [--requests 512]
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import report

from steersman.local import LocalServer
from steersman.puzzles.problems import KINDS, TRAINED, problems
from steersman_client import AsyncSteersman

CONCURRENCY = 64
MAX_TOKENS = 448


async def measure(url: str, prompts: list[str]) -> dict[str, float]:
    """Requests and sampled tokens a second over one round of load."""
    gate = asyncio.Semaphore(CONCURRENCY)
    async with AsyncSteersman(base_url=f"{url}/v1", timeout=300) as client:

        async def ask(prompt: str) -> int:
            async with gate:
                answer = await client.chat.completions.create(
                    model="reasoner",
                    messages=[{"role": "user", "content": prompt}],
                    max_tokens=MAX_TOKENS,
                )
            assert answer.usage is not None
            return answer.usage.completion_tokens

        await asyncio.gather(*(ask(prompt) for prompt in prompts[:CONCURRENCY]))
        started = time.perf_counter()
        tokens = sum(await asyncio.gather(*(ask(prompt) for prompt in prompts)))
        seconds = time.perf_counter() - started
    return {
        "requests_per_second": round(len(prompts) / seconds, 1),
        "tokens_per_second": round(tokens / seconds, 1),
        "tokens_a_request": round(tokens / len(prompts), 1),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=512)
    count = parser.parse_args().requests
    cells = [(kind, grade) for kind in KINDS for grade in TRAINED]
    each = -(-count // len(cells))
    prompts = [p.prompt for cell in cells for p in problems(*cell, "held_out", 0, each)][:count]
    log = Path(tempfile.mkdtemp(prefix="reasoner-")) / "server"
    arguments = ["reasoner", f"--max-num-seqs={CONCURRENCY}"]
    with LocalServer.steersman(arguments, log, {"VLLM_LOGGING_LEVEL": "WARNING"}) as server:
        result = asyncio.run(measure(server.url, prompts))
    report.write(
        "reasoner", {"what": "the built-in reasoner", "concurrency": CONCURRENCY, **result}
    )


if __name__ == "__main__":
    main()
