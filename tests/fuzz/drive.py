"""A run: batch after batch against a server, and what is found on the way."""

import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from tests.fuzz.answer import Answer
from tests.fuzz.ask import Cut, ask
from tests.fuzz.culprit import Culprit
from tests.fuzz.findings import Findings, Tally
from tests.fuzz.generate import Generator
from tests.fuzz.invariants import Violation
from tests.fuzz.judge import Judge
from tests.fuzz.known import KnownAnswers
from tests.fuzz.surface import Surface
from tests.fuzz.target import Target
from tests.fuzz.wire import Case

_BATCHES = 1_000_003
"""More than any run has: seeds of two runs never meet."""
_DEAD = Violation("dead engine", "the server is dead")
_KNOWN_BETWEEN = 3
_DEATH_SECONDS = 2.0
_RECURSION = 20_000
_COMPARED = 1 / 6
_IDLE_GROWTH = 64 * 2**20


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        seed: Whatever is asked depends on it alone, and on what the server offers.
        requests: When to stop.
        seconds: When to stop, whatever `requests` says.
        in_flight: Requests at a time.
        batch: Requests from one look at the server to the next.
        hang_up: Whether most clients hang up.
        largest: Requests with a larger number in their control are left out, and counted.
        shrink_seconds: Time for making one finding small.

    """

    seed: int = 0
    requests: int = 20_000
    seconds: float = math.inf
    in_flight: int = 24
    batch: int = 80
    hang_up: bool = False
    largest: float = math.inf
    shrink_seconds: float = 10.0


class Run:
    """One run.

    Args:
        target: The server.
        options: How.
        log: Takes a line now and then.

    """

    def __init__(self, target: Target, options: Options, log: Any = print) -> None:
        self._target = target
        self._options = options
        self._log = log
        with target.client() as http:
            self._surface = Surface.of(http)
        self._random = random.Random(options.seed)
        self.findings = Findings()
        self.tally = Tally(options.seed)

    async def run(self) -> None:
        """Ask until enough was asked, or the server cannot be started anew any more."""
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(_RECURSION)  # bodies nest deeper than Python's own limit allows
        try:
            await self._run()
        finally:
            sys.setrecursionlimit(limit)

    async def _run(self) -> None:
        generator = Generator(self._surface)
        started = time.monotonic()
        async with self._target.async_client() as http:
            judge = Judge(self._surface, http)
            known = await KnownAnswers.record(http, self._surface.model)
            culprit = Culprit(self._target, http, judge, known, self._options.shrink_seconds)
            index = 0
            while self._goes_on(started):
                # Not beside the answers: Hypothesis moves the limit of recursion, which these need.
                cases = await self._made(generator, index)
                alive = await self._batch(http, judge, culprit, cases)
                alive = alive and await self._between(http, known, culprit, cases, index)
                self.tally.seconds = time.monotonic() - started
                if not alive:
                    self._log("the server is dead, or wrong, and may not be started anew again")
                    return
                index += 1
                self._weigh(started, index)
            await self._end(http, known)
        self.tally.seconds = time.monotonic() - started

    async def _made(self, generator: Generator, index: int) -> Sequence[Case]:
        """The requests of a batch."""
        seed = self._options.seed * _BATCHES + index
        made = await anyio.to_thread.run_sync(generator.batch, seed, self._options.batch)
        cases = [case for case in made if not self._too_large(case)]
        self.tally.skipped += len(made) - len(cases)
        return cases

    def _goes_on(self, started: float) -> bool:
        seconds = time.monotonic() - started
        return self.tally.requests < self._options.requests and seconds < self._options.seconds

    def _weigh(self, started: float, index: int) -> None:
        # The engine's memory grows in the first thousands of requests, without a control too.
        warm = self._options.requests / 2
        if self.tally.requests < warm and time.monotonic() - started < self._options.seconds / 5:
            return
        if index % 10 == 0 or not self._target.memory:
            self._target.weigh()
            memory = self._target.memory[-1]
            self._log(f"{self.tally.requests} requests, {self.tally.seconds:.0f} s, {memory}")

    async def _batch(
        self, http: httpx.AsyncClient, judge: Judge, culprit: Culprit, cases: Sequence[Case]
    ) -> bool:
        """Ask a batch; whether the server is fit for the next."""
        answers: dict[int, Answer] = {}
        cuts = [Cut.drawn(self._random) if self._options.hang_up else None for _ in cases]
        limit = anyio.CapacityLimiter(self._options.in_flight)

        async def one(index: int) -> None:
            async with limit:
                answers[index] = await ask(http, cases[index], cuts[index])

        async with anyio.create_task_group() as tasks:
            for index in range(len(cases)):
                tasks.start_soon(one, index)
        self.tally.requests += len(cases)
        failed = any(answer.broken or answer.status >= 500 for answer in answers.values())
        if await self._target.dies(_DEATH_SECONDS if failed else 0):
            return await culprit.find(self.findings, _DEAD, cases)
        for index, case in enumerate(cases):
            await self._judge(judge, culprit, case, answers[index])
        return not await self._target.dies(0) or await culprit.find(self.findings, _DEAD, cases)

    async def _judge(self, judge: Judge, culprit: Culprit, case: Case, answer: Answer) -> None:
        self.tally.by_status[str(answer.status) if answer.status else "none"] += 1
        self.tally.by_outcome[judge.outcome(case, answer)] += 1
        compare = judge.suspicious(case, answer) or self._random.random() < _COMPARED
        verdict = await judge.judged(case, answer, compare=compare)
        for violation in verdict.also_plain:
            self.findings.add(violation, [case], also_plain=True)
        for violation in verdict.violations:
            if finding := self.findings.add(violation, [case]):
                self._log(f"found {violation.kind}")
                finding.cases = [await culprit.shrunk(case, violation)]

    async def _between(
        self,
        http: httpx.AsyncClient,
        known: KnownAnswers,
        culprit: Culprit,
        cases: Sequence[Case],
        index: int,
    ) -> bool:
        changed = await known.changed(http, index * _KNOWN_BETWEEN, _KNOWN_BETWEEN)
        if not changed:
            return True
        violation = _DEAD if await self._target.dies(_DEATH_SECONDS) else changed[0]
        return await culprit.find(self.findings, violation, cases)

    async def _end(self, http: httpx.AsyncClient, known: KnownAnswers) -> None:
        held = await self._target.held()
        if held:
            self.findings.add(Violation("held", f"at the end: {held}"), [])
        for violation in await known.changed(http):
            self.findings.add(violation, [])
        self._target.weigh()
        first, last = self._target.memory[0], self._target.memory[-1]
        if last.resident - first.resident > max(_IDLE_GROWTH, first.resident / 10):
            grown = f"from {first} to {last}"
            self.findings.add(Violation("memory", grown), [])

    def _too_large(self, case: Case) -> bool:
        if self._options.largest == math.inf:
            return False
        control = (case.body or {}).get("control")
        return any(not abs(number) <= self._options.largest for number in _numbers(control))


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, int | float):
        yield value
