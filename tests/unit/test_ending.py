"""The end of a server: what is under way finishes, or is told at the deadline."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from steersman import ending as module
from steersman.ending import Ending, Starting


@dataclass
class Server:
    should_exit: bool = False


@dataclass
class Engine:
    told: asyncio.Event = field(default_factory=asyncio.Event)
    reasons: list[str] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    """Engine requests at each telling; the last number stays."""

    def refuse(self, reason: str) -> int:
        self.reasons.append(reason)
        self.told.set()
        return self.in_flight.pop(0) if len(self.in_flight) > 1 else sum(self.in_flight)


@pytest.fixture
def handlers() -> Iterator[None]:
    """The process's own handler is back afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("handlers")
def test_a_start_is_ended_once(capfd: pytest.CaptureFixture[str]) -> None:
    starting = Starting()
    starting.listen()
    starting.check()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 0
    signal.raise_signal(signal.SIGTERM)  # cleaning up is not disturbed
    assert capfd.readouterr().err == "steersman: told to stop before the server was ready\n"


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_gets_lost_is_heard_later() -> None:
    """Python prints what a finalizer raises, and goes on."""
    starting, lost = Starting(), []

    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    starting.listen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lost.append)
        Dying()
        gc.collect()
    assert [one.exc_type for one in lost] == [SystemExit]
    with pytest.raises(SystemExit):
        starting.check()


def test_at_the_first_signal_requests_may_finish() -> None:
    ending, server, engine = Ending(600), Server(), Engine()

    async def run() -> None:
        ending.listen(server, engine)
        assert not ending.begun
        os.kill(os.getpid(), signal.SIGTERM)
        while not ending.begun:
            await asyncio.sleep(0)

    asyncio.run(run())
    assert server.should_exit
    assert engine.reasons == []


def test_at_a_second_signal_they_are_told() -> None:
    server, engine = Server(), Engine()

    async def run() -> None:
        ending = Ending(600)
        ending.begin(server, engine)
        ending.begin(server, engine)

    asyncio.run(run())
    assert engine.reasons == ["the server is shutting down; try again, or another one"]


def test_all_who_have_requests_are_told() -> None:
    engine, rewards = Engine(), Engine()

    async def run() -> None:
        ending = Ending(600)
        ending.begin(Server(), engine, rewards)
        ending.begin(Server(), engine, rewards)
        ending.close()

    asyncio.run(run())
    assert engine.reasons == rewards.reasons
    assert len(rewards.reasons) == 1


def test_at_the_deadline_they_are_told_until_all_have_heard() -> None:
    engine = Engine()

    async def run() -> None:
        ending = Ending(0)
        ending.begin(Server(), engine)
        for _ in range(2):
            await engine.told.wait()
            engine.told.clear()
        ending.close()

    asyncio.run(run())
    assert len(engine.reasons) == 2


def test_nobody_is_told_once_it_is_closed() -> None:
    ending, engine = Ending(0), Engine()

    async def run() -> None:
        ending.begin(Server(), engine)
        ending.close()
        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert engine.reasons == []
    assert ending.begun


def said(
    in_flight: list[int],
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> list[str]:
    """The numbers that are logged while requests in flight are told."""
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(module, "_SAID_SECONDS", seconds)
    engine, tellings = Engine(in_flight=[*in_flight]), len(in_flight)

    async def run() -> None:
        ending = Ending(0)
        ending.begin(Server(), engine)
        while len(engine.reasons) < tellings:
            await engine.told.wait()
            engine.told.clear()
        ending.close()

    with caplog.at_level(logging.INFO, logger="steersman.ending"):
        asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records]
    return [line.rpartition(" ")[2] for line in lines if "answered with an error" in line]


def test_a_number_is_logged_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = said([3, 3, 3, 1, 1, 0, 1], 1e9, monkeypatch, caplog)
    assert numbers == ["3", "1", "0", "1"]


def test_the_same_number_is_logged_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert said([2, 2, 2], 0.0, monkeypatch, caplog)[:3] == ["2", "2", "2"]
