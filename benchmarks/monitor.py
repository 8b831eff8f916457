"""Cost of watching every request over HTTP: throughput with the monitor over that without.

One server answers the same 32 requests: without a control, monitored, and with vLLM's own
`logprobs`, one number a token; the kinds take turns. `monitor_steps.py` has the engine's part
alone.

    python benchmarks/monitor.py [--models smollm2 reasoner] [--rounds 12]
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import report
import turns

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


def seconds(url: str, model: str, kind: str) -> float:
    """Seconds that the server takes for all requests."""
    bodies = [
        {
            "model": model,
            "prompt": f"{number + 11}+9*3-8=?",
            "max_tokens": TOKENS[model],
            "ignore_eos": True,
            "seed": number,
            "temperature": 1.0,
            "top_p": 1.0,
            **KINDS[kind],
        }
        for number in range(REQUESTS)
    ]
    taken, found = turns.answers(url, bodies)
    for content in found:
        assert ("entropy" in content.get("control", {})) == kind.startswith("monitored")
    return taken


def measure(model: str, rounds: int) -> dict[str, Any]:
    """All kinds on one model."""
    with models.ConsoleProgress() as progress:
        models.prepare(model, progress=progress)
    kinds = [kind for kind in KINDS if kind != "budget" or model == "reasoner"]
    log = Path(tempfile.mkdtemp(prefix="monitor-")) / "server"
    arguments = [model, "--max-num-seqs", str(REQUESTS), "--max-logprobs", "1"]
    server = LocalServer.steersman(arguments, log, {"VLLM_LOGGING_LEVEL": "WARNING"})
    with server:
        loads = {kind: lambda kind=kind: seconds(server.url, model, kind) for kind in kinds}
        taken = turns.take(loads, rounds)
    tokens = REQUESTS * TOKENS[model]
    return {
        NONE: {"tokens_per_second": round(tokens / statistics.median(taken[NONE]), 1)},
        **turns.compared(taken, NONE, AIMS),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--models", choices=TOKENS, nargs="+", default=[*TOKENS])
    options = parser.parse_args()
    for model in options.models:
        report.write(
            f"monitor_{model}",
            {
                "what": "throughput over HTTP of 32 requests at once that are watched, over the "
                "same without a control",
                "model": model,
                "requests": REQUESTS,
                "tokens_a_request": TOKENS[model],
                "rounds": options.rounds,
                "kinds": measure(model, options.rounds),
            },
        )


if __name__ == "__main__":
    main()
