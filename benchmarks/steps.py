"""Every other step of one and the same batch without something: the finest way to see its cost.

What is measured is taken out and put back between two steps, a fraction of a second apart, so that
what else the machine does hits both alike.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import report
from vllm import LLM

DTYPE = "bfloat16"
"""What serves on a CPU that multiplies it; in float32 a step is slower, and ours a smaller part."""

_FIRST = 8
"""Steps before the first pair: the prompts, and the first tokens."""

Turn = Callable[[bool], None]
"""Puts in what is measured, or takes it out."""


def seconds(llm: LLM, turn: Turn, steps: int) -> tuple[list[float], list[float]]:
    """Seconds of steps without what is measured, and of those with it, in pairs.

    The engine has its requests already, each of them long enough.
    """
    engine = llm.llm_engine
    for _ in range(_FIRST):
        engine.step()
    found: dict[bool, list[float]] = {False: [], True: []}
    for number in range(steps):
        # Who is first of a pair alternates as well.
        on = bool(number % 2) ^ bool(number // 2 % 2)
        if not on:
            turn(False)
        started = time.perf_counter()
        engine.step()
        found[on].append(time.perf_counter() - started)
        if not on:
            turn(True)
    while engine.has_unfinished_requests():
        engine.step()
    return found[False], found[True]


def longest(steps: int) -> int:
    """Tokens that a request must have to outlast so many steps."""
    return steps + 2 * _FIRST


def summary(plain: list[float], measured: list[float]) -> dict[str, Any]:
    """Relative throughput, from pairs of steps."""
    return {
        "milliseconds_a_step": report.spread([s * 1e3 for s in measured]),
        "milliseconds_a_step_plain": report.spread([s * 1e3 for s in plain]),
        "ratio_of_medians": round(statistics.median(plain) / statistics.median(measured), 4),
        "ratio_of_pairs": report.spread([x / y for x, y in zip(plain, measured, strict=True)]),
    }
