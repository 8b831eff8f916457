"""Waiting for messages of vLLM's other processes, on its own queue."""

import ctypes
import inspect
import threading
import xml.etree.ElementTree as ET
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


def in_use(directory: Path) -> int:
    """Bytes that are allocated in this process, by all threads, and not freed."""
    libc, path = ctypes.CDLL(None), directory / "malloc.xml"
    libc.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.fopen(str(path).encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    root = ET.fromstring(path.read_text())
    (system,) = (int(one.attrib["size"]) for one in root.findall("system[@type='current']"))
    free = (one for one in root.findall("total") if one.attrib["type"] in ("fast", "rest"))
    return system - sum(int(one.attrib["size"]) for one in free)


def growth(directory: Path, messages: int) -> int:
    """Bytes that a reader is larger by after so many notifications, none of which it waits for."""
    address = f"ipc://{directory / 'notify'}"
    with zmq.Context() as context:
        ends = [SpinCondition(is_reader, context, address) for is_reader in (False, True)]
        writer, reader = ends
        try:
            for number in range(2 * messages):
                if number == messages:
                    before = in_use(directory)
                writer.notify()
                threading.Event().wait(2e-4)  # it has come
                reader.record_read()
            after = in_use(directory)
            told = reader.local_notify_socket.poll(0)
        finally:
            sockets = ("local_notify_socket", "read_cancel_socket", "write_cancel_socket")
            for one in (getattr(end, name) for end in ends for name in sockets):
                if one is not None:
                    one.close(0)
    assert told, "a reader that is idle would not wake up"
    return after - before


@pytest.mark.usefixtures("restored")
def test_notifications_do_not_pile_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each leaves some bytes in the mailbox of a reader that does nothing with its socket."""
    monkeypatch.delenv(NAP, raising=False)
    monkeypatch.setenv(TAKE, "1")
    messages, few = 4000, 16_000
    SpinCondition.record_read = inspect.unwrap(SpinCondition.record_read)
    assert growth(tmp_path, messages) > few
    waiting.patch()
    assert growth(tmp_path, messages) < few
