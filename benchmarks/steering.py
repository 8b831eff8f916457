"""Cost of steering: throughput over the same server with no steering installed.

Two servers are up at once, one of them started with `--no-steering`. The same 32 requests go to
one or the other, steered in several ways; these loads take turns, and meanwhile the other server
stands still. `steering_steps.py` has the engine's part alone.

    python benchmarks/steering.py [--rounds 20]
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import report
import turns

from steersman import models
from steersman.local import LocalServer
from steersman.vectors import file
from steersman.vectors.vector import Vector, VectorMetadata

MODEL = "smollm2"
HIDDEN, LAYERS = 576, 30
REQUESTS = 32
TOKENS = 128
FLAGS = (MODEL, "--max-num-seqs", str(REQUESTS), "--steering-rows", "64")
VECTORS = tuple("abcd")
NOT_INSTALLED = "not installed"

Steer = Callable[[int], list[dict[str, Any]]]
"""The `control.steer` of each request, by its number."""

LOADS: dict[str, Steer | None] = {
    "none steered": None,
    "one configuration": lambda _: [{"vector": "a", "strength": 0.1}],
    "four vectors each": lambda _: [{"vector": name, "strength": 0.05} for name in VECTORS],
    "32 configurations": lambda number: [{"vector": "a", "strength": 0.1 + number / 1000}],
}
AIMS = {name: ">= 0.97" if steer else ">= 0.99" for name, steer in LOADS.items()}


def seconds(url: str, steer: Steer | None) -> float:
    """Seconds that a server takes for all requests."""
    bodies = [
        {
            "model": MODEL,
            "prompt": f"Number {number} is",
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "seed": number,
            "temperature": 1.0,
            "top_p": 1.0,
            **({"control": {"steer": steer(number)}} if steer else {}),
        }
        for number in range(REQUESTS)
    ]
    taken, found = turns.answers(url, bodies)
    for content in found if steer else ():
        assert {term["tokens"] for term in content["control"]["applied"]["steer"]} == {TOKENS - 1}
    return taken


def server(scratch: Path, name: str, *arguments: str) -> LocalServer:
    """A server of the model."""
    environment = {"VLLM_LOGGING_LEVEL": "WARNING"}
    return LocalServer.steersman((*FLAGS, *arguments), scratch / name, environment)


def write_vectors(directory: Path) -> None:
    """Weak random vectors for every layer: what is measured does not depend on their direction."""
    rng = np.random.default_rng(0)
    metadata = VectorMetadata(site="layer", method="random")
    for name in VECTORS:
        layers = {i: rng.normal(size=HIDDEN).astype(np.float32) * 0.01 for i in range(LAYERS)}
        (directory / f"{name}.safetensors").write_bytes(file.write(Vector(layers, metadata)))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with models.ConsoleProgress() as progress:
        models.prepare(MODEL, progress=progress)
    scratch = Path(tempfile.mkdtemp(prefix="steering-"))
    write_vectors(scratch)
    with (
        server(scratch, "plain", "--no-steering") as plain,
        server(scratch, "steering", "--vectors", str(scratch)) as ours,
    ):

        def not_installed() -> float:
            with turns.stopped(ours):
                return seconds(plain.url, None)

        def installed(steer: Steer | None) -> float:
            with turns.stopped(plain):
                return seconds(ours.url, steer)

        loads = {name: lambda steer=steer: installed(steer) for name, steer in LOADS.items()}
        taken = turns.take({NOT_INSTALLED: not_installed, **loads}, rounds)
    tokens = REQUESTS * TOKENS
    report.write(
        "steering",
        {
            "what": "throughput over HTTP of 32 requests at once with steering, over the same on a "
            "server started with --no-steering",
            "requests": REQUESTS,
            "tokens_a_request": TOKENS,
            "rounds": rounds,
            NOT_INSTALLED: {
                "tokens_per_second": round(tokens / statistics.median(taken[NOT_INSTALLED]), 1)
            },
            "loads": turns.compared(taken, NOT_INSTALLED, AIMS),
        },
    )


if __name__ == "__main__":
    main()
