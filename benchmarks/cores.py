"""Throughput on few cores where all of them compute, over vLLM's own way, which leaves one idle.

Two servers have the same weights and flags. The one whose turn it is not stands still.

    python benchmarks/cores.py [--rounds 6]
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report
import turns

from steersman.local import LocalServer

VLLM = {"STEERSMAN_NAP_WHILE_WAITING": "0", "VLLM_CPU_OMP_THREADS_BIND": "auto"}
TOKENS = {"smollm2": 48, "reasoner": 100}
STREAMS = (1, 8)
THEIRS, OURS = "one for the engine core", "all compute"


def body(model: str, number: int) -> dict[str, Any]:
    """A request."""
    return {
        "model": model,
        "prompt": f"The number {number} is",
        "max_tokens": TOKENS[model],
        "ignore_eos": True,
        "temperature": 1.0,
        "seed": number,
    }


def load(model: str, server: LocalServer, other: LocalServer, streams: int) -> Callable[[], float]:
    """A load of some requests at once, in seconds."""

    def run() -> float:
        with turns.stopped(other):
            return turns.answers(server.url, [body(model, number) for number in range(streams)])[0]

    return run


def measure(model: str, rounds: int) -> dict[str, Any]:
    """Ratios of a model."""
    logs = Path(tempfile.mkdtemp(prefix="cores-"))
    arguments = [model, "--dtype", "float32"]
    with (
        LocalServer.steersman(arguments, logs / "theirs", VLLM) as theirs,
        LocalServer.steersman(arguments, logs / "ours") as ours,
    ):
        found = {}
        for streams in STREAMS:
            loads = {
                THEIRS: load(model, theirs, ours, streams),
                OURS: load(model, ours, theirs, streams),
            }
            found[str(streams)] = turns.compared(turns.take(loads, rounds), THEIRS, {})[OURS]
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    report.write(
        "cores",
        {
            "what": "throughput where all cores compute, over one left to the engine core",
            "cores": len(os.sched_getaffinity(0)),
            "rounds": rounds,
            "by_streams": {model: measure(model, rounds) for model in TOKENS},
        },
    )


if __name__ == "__main__":
    main()
