"""Clocks: what lasts is measured by one that never jumps, and the wall's is read to be shown."""

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman.controls.limits import _POLL_SECONDS, LimitsPart
from steersman.keys.key import Key, KeyLimits
from steersman.trajectory.trajectory import Start, Trajectory
from steersman_client import Limits
from tests.unit.clocks import NOON, Clocks
from tests.unit.spans import Kept

ROOT = Path(__file__).parents[2]
TREES = ("server/steersman", "kernels/steersman_kernels", "clients/python/steersman_client")
WALL = {
    "time": {"time", "time_ns", "ctime", "gmtime", "localtime", "strftime", "asctime"}
    | {"clock_gettime", "clock_gettime_ns"},
    "datetime": {"now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp"},
}
"""Functions that read the clock on the wall, or take what it once showed, by module."""
SHOWN = {
    "api/answer.py": "OpenAI's field `created`",
    "api/progress.py": "OpenAI's field `created`",
    "observe/logs.py": "the time of a log line",
    "tracing.py": "the beginning of a trace; all that follows is counted from there",
}
"""Files that may read it once, and for what: to show it, never to measure."""

HOUR = 3600.0


def readings(source: str) -> Iterator[str]:
    """Mentions of the wall clock: `time.time`, `datetime.now` and the like, by any name."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.asname or one.name: one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            whole = ".".join((names.get(first, first), *rest))
            module, _, function = whole.partition(".")
            if function.rpartition(".")[2] in WALL.get(module, ()):
                yield whole


@pytest.mark.parametrize(
    "source",
    [
        "import time\nt = time.time()",
        "import time as t\nstart = t.time_ns()",
        "from time import time\nend = time() + 5",
        "from time import time as now\ndef f(clock=now): ...",
        "import time\ndef f(clock=time.time): ...",
        "import datetime\nt = datetime.datetime.now(datetime.UTC)",
        "from datetime import datetime as d\nt = d.utcnow()",
        "from datetime import date\nt = date.today()",
    ],
)
def test_every_way_to_read_it_is_found(source: str) -> None:
    assert len([*readings(source)]) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import time\nt = time.monotonic() + time.perf_counter()",
        "import time\nwith_clock = Ledger(clock).time()",
        "import asyncio\nt = asyncio.get_running_loop().time()",
        "def time(): ...\nanswer.time()",
    ],
)
def test_what_never_jumps_may_be_read(source: str) -> None:
    assert [*readings(source)] == []


def test_nothing_is_measured_by_the_wall() -> None:
    found = {}
    for tree in TREES:
        for path in sorted((ROOT / tree).rglob("*.py")):
            if own := [*readings(path.read_text())]:
                found[str(path.relative_to(ROOT / tree))] = own
    # Once each: with two readings one could be taken from the other.
    assert {path: len(own) for path, own in found.items()} == dict.fromkeys(SHOWN, 1), found


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_key_waits_as_long_whatever_the_wall_says(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """A debt of 30 tokens at one a second is paid after half a minute, and not before."""
    monkeypatch.setattr(
        "steersman.keys.usage.Bucket", clocks.reading(monkeypatch, "steersman.keys.bucket").Bucket
    )
    usage = clocks.reading(monkeypatch, "steersman.keys.usage")
    own = usage.Usage(Key("alice", b"digest", limits=KeyLimits(tokens_per_minute=60)))
    own.charge(90)

    for passed in (1, 14, 14):
        clocks.passed += passed
        with pytest.raises(usage.LimitError) as caught:
            own.check()
        assert caught.value.headers["Retry-After"] == str(round(31 - clocks.passed))
        if passed == 1:
            clocks.jumped += jump
    clocks.passed += 2.5
    own.check()


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_deadline_comes_when_it_is_due(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    ledger = clocks.reading(monkeypatch, "steersman.ledger").Ledger()
    ledger.open().branches.append(Trajectory(Start(0)))
    stopped: list[float] = []

    async def stop() -> None:
        stopped.append(clocks.passed)

    async def run() -> None:
        part = LimitsPart(Limits(max_seconds=6.0))
        async with part.watching(ledger, stop), asyncio.timeout(20):
            for passed in (2.0, 3.0, 2.0):
                clocks.passed += passed
                await asyncio.sleep(4 * _POLL_SECONDS)
                clocks.jumped = jump

    asyncio.run(run())
    assert set(stopped) == {7.0}
    assert ledger.stopped_by == "max_seconds"
    assert ledger.seconds == 7.0


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_span_lasts_as_long_as_it_took(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    kept = Kept()
    tracing = clocks.reading(monkeypatch, "steersman.tracing").Tracing(kept.tracer)
    root = tracing.request("chat", {}, {})
    clocks.passed += 1
    child = root.child("branch")
    clocks.jumped += jump
    clocks.passed += 2
    child.end()
    clocks.passed += 3
    root.child("select", began=root.latest).end()
    root.close()
    seconds = {
        span.name: ((span.start_time or 0) / 1e9 - NOON, (span.end_time or 0) / 1e9 - NOON)
        for span in kept.spans
    }
    assert seconds == {"chat": (0, 6), "branch": (1, 3), "select": (3, 6)}
