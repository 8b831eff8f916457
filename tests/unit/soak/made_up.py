"""Runs that nobody has made, as a soak would have seen them."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tests.soak.mix import CONTROLS
from tests.soak.pool import Asked
from tests.soak.run import Seen

SECONDS = 1800.0
MIB = 2**20


def seen(
    growth: Callable[[float], float] = lambda time: 0.0,
    slower: Callable[[float], float] = lambda time: 1.0,
    kills: Sequence[float] = (30.0, 90.0),
) -> Seen:
    """A good run.

    Args:
        growth: MiB that the worker has grown by at a time.
        slower: Factor of the latencies at a time.
        kills: When clients were killed.

    """
    drawing = np.random.default_rng(0)
    run = Seen(seconds=SECONDS, kills=[*kills])
    for time in np.arange(1.0, SECONDS, 5.0):
        noise = drawing.normal(size=3)
        for name, size in (("server", 800), ("VLLM::EngineCore", 700), ("VLLM::Worker", 1500)):
            own = growth(time) if name == "VLLM::Worker" else 0.0
            run.memory[name].append((float(time), int((size + own + 0.2 * noise[0]) * MIB)))
    kinds = itertools.cycle(CONTROLS)
    for number, ended in enumerate(np.arange(1.0, SECONDS, 0.1)):
        kind = next(kinds)
        usual = 1 + list(CONTROLS).index(kind)
        seconds = usual * float(drawing.lognormal(sigma=0.4)) * slower(ended)
        run.asked.append(Asked(kind, float(ended), seconds, cut=number % 5 == 4))
    return run


def with_fault(run: Seen, fault: str) -> Seen:
    """The same, but for one answer."""
    run.asked[0] = replace(run.asked[0], faults=(fault,))
    return run
