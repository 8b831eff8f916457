"""Waiting for messages of vLLM's other processes, on its own queue."""

import inspect
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from vllm.distributed.device_communicators import shm_broadcast
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue, SpinCondition

from steersman.engine.compat import waiting
from steersman.engine.settings import NAP, TAKE


@pytest.fixture
def restored() -> Iterator[None]:
    before, record_read = shm_broadcast.sched_yield, SpinCondition.record_read
    yield
    shm_broadcast.sched_yield, SpinCondition.record_read = before, record_read


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


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[SpinCondition, SpinCondition]]:
    """A writer, and a reader that waits for nothing and has heard of nothing."""
    address = f"ipc://{tmp_path / 'notify'}"
    with zmq.Context() as context:
        writer, reader = (SpinCondition(one, context, address) for one in (False, True))
        told = reader.local_notify_socket
        while not told.poll(10):
            writer.notify()  # those before they are connected are lost
        while told.poll(10):
            told.recv()
        yield writer, reader
        for end in (writer, reader):
            cancels = (end.read_cancel_socket, end.write_cancel_socket)
            for socket in filter(None, (end.local_notify_socket, *cancels)):
                socket.close(0)


def mail(reader: SpinCondition, seconds: float) -> bool:
    """Tell whether something is in the mailbox of a reader's socket, or comes in time."""
    mailbox = reader.local_notify_socket.getsockopt(zmq.FD)
    return bool(select.select([mailbox], [], [], seconds)[0])


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("asked", [True, False])
def test_notifications_do_not_pile_up(
    ends: tuple[SpinCondition, SpinCondition], monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """A reader that is never idle empties its mailbox all the same; in vLLM's it stays full."""
    SpinCondition.record_read = inspect.unwrap(SpinCondition.record_read)
    monkeypatch.delenv(NAP, raising=False)
    monkeypatch.setenv(TAKE, "1" if asked else "0")
    waiting.patch()
    writer, reader = ends
    writer.notify()
    assert mail(reader, 60.0)
    for _ in range(100):
        reader.record_read()
        writer.notify()
    reader.record_read()
    assert mail(reader, 0.1) is not asked
    assert reader.local_notify_socket.poll(0), "a reader that is idle would not wake up"
