"""Pool of clients in a process of its own, which can be killed with all its connections."""

import contextlib
import functools
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

import anyio
import httpx

from tests.fuzz.answer import Answer
from tests.fuzz.ask import Cut, ask
from tests.fuzz.invariants import Invariants
from tests.fuzz.surface import Surface
from tests.fuzz.wire import Case
from tests.soak import mix

STAYS = 0.8
"""Share of the requests whose clients stay to the end."""
_LONG = 300
_FAILED_SECONDS = 0.5
"""Rest of a client whose request found no server."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that has ended.

    Attributes:
        kind: Its kind, of `mix.CONTROLS`.
        ended: When, by the monotonic clock, which all processes share.
        seconds: From its beginning to its end.
        cut: Whether its client hung up.
        faults: The rules that its answer broke.

    """

    kind: str
    ended: float
    seconds: float
    cut: bool
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of one process.

    Attributes:
        url: The server's.
        surface: What it offers.
        seed: Requests depend on it alone.
        count: Clients, each with one request after another.
        kinds: Kinds of their requests.

    """

    url: str
    surface: Surface
    seed: int
    count: int
    kinds: tuple[str, ...] = tuple(mix.CONTROLS)


class Pool:
    """A running process of clients.

    Args:
        clients: The clients.

    Attributes:
        reports: Where they tell of their requests; at its end once the process has died.

    """

    def __init__(self, clients: Clients) -> None:
        context = multiprocessing.get_context("spawn")
        self.reports, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(clients, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def running(self) -> bool:
        """False once the process has ended."""
        return self._process.is_alive()

    def told(self) -> Iterator[Asked]:
        """Reports that have come since the last call."""
        with contextlib.suppress(EOFError, OSError):
            while self.reports.poll():
                yield self.reports.recv()

    def kill(self) -> None:
        """End the process as `kill -9` does; it closes no connection by itself."""
        self._process.kill()
        self._process.join()


def faults(invariants: Invariants, case: Case, answer: Answer) -> tuple[str, ...]:
    """Rules that an answer breaks. Nothing that is asked for here may be refused."""
    if answer.cut:
        return ()
    found = [*invariants.of_any(answer)]
    if (case.body or {}).get("control") is not None:
        found += invariants.of_controlled(case, answer)
    broken = [f"{one.rule}: {one.detail}"[:_LONG] for one in found]
    if answer.status != httpx.codes.OK and answer.broken is None:
        broken.append(f"{answer.status}: {answer.content[:_LONG].decode(errors='replace')}")
    return tuple(broken)


def _run(clients: Clients, reports: Connection) -> None:
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        anyio.run(_ask_all, clients, reports)


async def _ask_all(clients: Clients, reports: Connection) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    invariants = Invariants(clients.surface)
    async with (
        httpx.AsyncClient(base_url=clients.url, timeout=None, limits=limits) as http,
        anyio.create_task_group() as group,
    ):
        for number in range(clients.count):
            source = random.Random(f"{clients.seed}/{number}")
            draw = functools.partial(mix.drawn, source, clients.kinds)
            group.start_soon(_ask, http, invariants, source, draw, reports)


async def _ask(
    http: httpx.AsyncClient,
    invariants: Invariants,
    source: random.Random,
    draw: Callable[[], tuple[str, Case]],
    reports: Connection,
) -> None:
    """One request after another, for ever."""
    while True:
        kind, case = draw()
        began = time.monotonic()
        answer = await ask(http, case, Cut.drawn(source, STAYS))
        ended = time.monotonic()
        found = faults(invariants, case, answer)
        reports.send(Asked(kind, ended, ended - began, answer.cut, found))
        if answer.broken is not None:
            await anyio.sleep(_FAILED_SECONDS)
