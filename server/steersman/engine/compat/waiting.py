"""Sleep of the engine's processes while they wait for one another, where cores are few.

While messages are frequent, for a second after each, vLLM's engine core and its workers look for
the next one again and again without a pause. That saves some microseconds and takes a whole core:
on a machine with two, half of what could compute. To sleep until the notification that vLLM sends
to idle readers is no way out: now and then one is lost, and the step waits for seconds.
"""

import os
import time

from steersman.engine.settings import NAP

SECONDS = 1e-4
"""Pause before a process looks again."""


def patch() -> None:
    """Have this process pause before it looks again for a message, if the server wants it."""
    if os.environ.get(NAP) != "1":
        return
    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.sched_yield = nap


def nap() -> None:
    """Pause."""
    time.sleep(SECONDS)
