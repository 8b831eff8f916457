"""Waiting for messages of vLLM's other processes, on its own queue."""

import threading
from collections.abc import Iterator

import pytest
from vllm.distributed.device_communicators import shm_broadcast
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue

from steersman.engine.compat import waiting
from steersman.engine.settings import NAP


@pytest.fixture
def restored() -> Iterator[None]:
    before = shm_broadcast.sched_yield
    yield
    shm_broadcast.sched_yield = before


def queue() -> tuple[MessageQueue, MessageQueue]:
    """The two ends of a queue: that which writes, and that which reads."""
    writer = MessageQueue(n_reader=1, n_local_reader=1)
    reader = MessageQueue.create_from_handle(writer.export_handle(), rank=0)
    ready = threading.Thread(target=writer.wait_until_ready)
    ready.start()
    reader.wait_until_ready()
    ready.join()
    return writer, reader


def read_some(writer: MessageQueue, reader: MessageQueue, count: int) -> list[int]:
    """Messages that come one by one, each after the last has been read."""
    got: list[int] = []
    turn = threading.Semaphore(1)

    def write() -> None:
        for number in range(count):
            turn.acquire()
            threading.Event().wait(0.01)  # so the reader is there first
            writer.enqueue(number)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(count):
        got.append(reader.dequeue(timeout=60))
        turn.release()
    thread.join()
    return got


@pytest.mark.usefixtures("restored")
def test_a_reader_pauses_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        threading.Event().wait(seconds)

    monkeypatch.setenv(NAP, "1")
    waiting.patch()
    monkeypatch.setattr(waiting.time, "sleep", sleep)
    ends = queue()
    assert read_some(*ends, 50) == list(range(50))
    assert set(pauses) == {waiting.SECONDS}
    ends[1].shutdown()


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("asked", ["0", None])
def test_unasked_it_looks_again_at_once(monkeypatch: pytest.MonkeyPatch, asked: str | None) -> None:
    monkeypatch.delenv(NAP, raising=False)
    if asked is not None:
        monkeypatch.setenv(NAP, asked)
    before = shm_broadcast.sched_yield
    waiting.patch()
    assert shm_broadcast.sched_yield is before
