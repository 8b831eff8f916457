"""Engines of all tests, started when a test first asks for them."""

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


class _Engines:
    """One engine for each runner, and the one with options that was asked for last."""

    def __init__(self, all_time: ExitStack, for_now: ExitStack) -> None:
        self._all_time = all_time
        self._for_now = for_now
        self._plain: dict[Runner, EngineProcess] = {}
        self._last: tuple[Runner, dict[str, Any], EngineProcess] | None = None

    def get(self, runner: Runner, options: dict[str, Any]) -> EngineProcess:
        if not options:
            if runner not in self._plain:
                engine = self._all_time.enter_context(EngineProcess(runner=runner))
                self._plain[runner] = engine
            return self._plain[runner]
        if self._last is None or self._last[:2] != (runner, options):
            self._last = None
            self._for_now.close()
            engine = self._for_now.enter_context(EngineProcess(runner=runner, **options))
            self._last = runner, options, engine
        return self._last[2]


@pytest.fixture(scope="package")
def _engines() -> Iterator[_Engines]:
    with ExitStack() as all_time, ExitStack() as for_now:
        yield _Engines(all_time, for_now)


@pytest.fixture(scope="package")
def started(_engines: _Engines) -> Started:
    """The engine with a runner and options; nothing is in its prefix cache.

    Modules that share it name two vectors alike only if they are. One with options lives until
    another one is asked for.
    """

    def engine(runner: Runner = "V1", **options: Any) -> EngineProcess:
        found = _engines.get(runner, options)
        found.forget()
        return found

    return engine
