"""Engines of all tests: one for each set of options, started when a test first asks for it."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.engine.host import EngineProcess, Runner

Started = Callable[..., EngineProcess]

SCARCE = {
    "num_gpu_blocks_override": 24,
    "enable_chunked_prefill": True,
    "max_num_batched_tokens": 48,
}
"""Few blocks, and prompts in pieces: requests are preempted and split."""


@pytest.fixture(scope="session")
def _engines() -> Iterator[Started]:
    with ExitStack() as stack:

        @functools.cache
        def started(runner: Runner, **options: Any) -> EngineProcess:
            return stack.enter_context(EngineProcess(runner=runner, **options))

        yield started


@pytest.fixture(scope="session")
def started(_engines: Started) -> Started:
    """The engine with a runner and options; nothing is in its prefix cache.

    Modules that share it name two vectors alike only if they are.
    """

    def engine(runner: Runner = "V1", **options: Any) -> EngineProcess:
        found = _engines(runner, **options)
        found.forget()
        return found

    return engine
