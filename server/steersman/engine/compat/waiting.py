"""Waits of the engine's processes for one another: their sleep, where cores are few, and memory.

While messages are frequent, for a second after each, vLLM's engine core and its workers look for
the next one again and again without a pause. That saves some microseconds and takes a whole core:
on a machine with two, half of what could compute. To sleep until the notification that vLLM sends
to idle readers is no way out: now and then one is lost, and the step waits for seconds.

These notifications come by ZeroMQ, one for each message. A reader that looks by itself never takes
them, and while it does nothing with their socket, each leaves a command in the socket's mailbox: of
a process that is never idle for a second, the memory grows by dozens of MiB an hour.
"""

import os
import time
from functools import wraps
from typing import Any

import zmq

from steersman.engine.settings import NAP, TAKE

SECONDS = 1e-4
"""Pause before a process looks again."""


def patch() -> None:
    """Have this process take its notifications, and pause before it looks again for a message, each
    if the server wants it."""
    takes, naps = (os.environ.get(name) == "1" for name in (TAKE, NAP))
    if not (takes or naps):
        return
    from vllm.distributed.device_communicators import shm_broadcast

    if naps:
        shm_broadcast.sched_yield = nap
    if takes:
        _take(shm_broadcast.SpinCondition)


def _take(condition: Any) -> None:
    """Have a reader empty its socket's mailbox at each message. The notification itself stays: it
    is there when the reader is idle, and looks again."""
    record_read = condition.record_read

    @wraps(record_read)
    def record_and_take(self: Any) -> None:
        record_read(self)
        self.local_notify_socket.getsockopt(zmq.EVENTS)

    condition.record_read = record_and_take


def nap() -> None:
    """Pause."""
    time.sleep(SECONDS)
