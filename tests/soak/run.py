"""A run: pools of clients against a server, killed now and then, and its memory meanwhile."""

import itertools
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection

import psutil

from steersman.local import LocalServer
from tests.fuzz.surface import Surface
from tests.soak.mix import CONTROLS
from tests.soak.pool import Asked, Clients, Pool

STAYING, KILLED = 12, 4
"""Clients of the pool that stays, and of the one that is killed and begun anew."""
SAMPLE_SECONDS = 5.0
_KILL_SECONDS = (20.0, 60.0)
_LINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run.

    Attributes:
        seconds: Its length.
        seed: Of the requests, and of the times at which a pool is killed.
        kinds: Kinds of requests.

    """

    seconds: float
    seed: int
    kinds: tuple[str, ...] = tuple(CONTROLS)


@dataclass(slots=True)
class Seen:
    """Observations of a run. All times are seconds since its beginning.

    Attributes:
        seconds: Its length.
        asked: Requests that have ended, in the order of their reports.
        memory: Resident bytes of each process of the server, by its name, and when.
        kills: When a pool was killed.
        died: When the server did; None if it lives.
        kinds: Kinds of requests that were asked.

    """

    seconds: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    kills: list[float] = field(default_factory=list)
    died: float | None = None
    kinds: tuple[str, ...] = tuple(CONTROLS)


def watch(
    server: LocalServer,
    surface: Surface,
    options: Options,
    log: Callable[[str], None] = lambda _: None,
) -> Seen:
    """Keep a server busy with 16 clients, and look at it.

    Args:
        server: The running server.
        surface: What it offers.
        options: How.
        log: Takes a line a minute.

    """
    seen, began = Seen(kinds=options.kinds), time.monotonic()
    seeds = itertools.count(options.seed * 1_000_003)
    drawing = random.Random(options.seed)

    def pool(count: int) -> Pool:
        return Pool(Clients(server.url, surface, next(seeds), count, options.kinds))

    staying, other = pool(STAYING), pool(KILLED)
    sampled, killed, logged = 0.0, drawing.uniform(*_KILL_SECONDS), _LINE_SECONDS
    try:
        while (now := time.monotonic() - began) < options.seconds and server.running:
            due = min(sampled, killed, options.seconds) - now
            connection.wait([staying.reports, other.reports], max(0.0, min(due, 1.0)))
            for one in (staying, other):
                seen.asked += [_since(began, told) for told in one.told()]
            now = time.monotonic() - began
            if now >= sampled:
                for name, size in resident(server).items():
                    seen.memory[name].append((now, size))
                sampled = now + SAMPLE_SECONDS
            if now >= killed or not other.running:
                other.kill()
                seen.asked += [_since(began, told) for told in other.told()]
                seen.kills.append(now)
                other = pool(KILLED)
                killed = now + drawing.uniform(*_KILL_SECONDS)
            if not staying.running:
                raise RuntimeError("the clients that stay have died")
            if now >= logged:
                log(_line(seen, now))
                logged += _LINE_SECONDS
    finally:
        for one in (staying, other):
            one.kill()
            seen.asked += [_since(began, told) for told in one.told()]
    seen.seconds = time.monotonic() - began
    seen.died = None if server.running else seen.seconds
    return seen


def _since(began: float, told: Asked) -> Asked:
    return Asked(told.kind, told.ended - began, told.seconds, told.cut, told.faults)


def resident(server: LocalServer) -> Mapping[str, int]:
    """Resident bytes of each process of a server, by names that stay the same."""
    found = {}
    for pid in (server.process_id, *server.children()):
        try:
            process = psutil.Process(pid)
            found[_name(server, process)] = process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return found


def _name(server: LocalServer, process: psutil.Process) -> str:
    """Name of a process; vLLM gives each of its own another one."""
    if process.pid == server.process_id:
        return "server"
    name: str = process.name()
    return name if name.startswith("VLLM::") else f"{name} {process.pid}"


def _line(seen: Seen, now: float) -> str:
    sizes = {name: f"{of[-1][1] >> 20}" for name, of in seen.memory.items()}
    broken: Sequence[Asked] = [one for one in seen.asked if one.faults]
    shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
    return f"{now:.0f} s: {len(seen.asked)} requests, {len(broken)} broken rules, MiB: {shown}"
