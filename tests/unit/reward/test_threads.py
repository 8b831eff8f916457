"""Work that blocks, in threads."""

import asyncio
import threading

import pytest

from steersman.reward.threads import Threads

pytestmark = pytest.mark.anyio


async def test_results_and_errors_come_back() -> None:
    threads = Threads()
    assert await threads.run(divmod, 7, 2) == (3, 1)
    assert await threads.run(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)


@pytest.mark.parametrize("error", [SystemExit(1), StopIteration(), KeyboardInterrupt()])
async def test_no_error_ends_the_event_loop(error: BaseException) -> None:
    def leave() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await Threads().run(leave)


async def test_calls_that_were_given_up_are_counted() -> None:
    threads, go_on = Threads(most_given_up=2), threading.Event()
    for _ in range(2):
        call = asyncio.ensure_future(threads.run(go_on.wait))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    with pytest.raises(RuntimeError, match="2 calls that took too long"):
        await threads.run(divmod, 7, 2)
    go_on.set()
    while True:
        try:
            assert await threads.run(divmod, 7, 2) == (3, 1)
            return
        except RuntimeError:
            await asyncio.sleep(0)
