"""Asking a line for its answer while it thinks (Dynasor, arXiv 2412.20993, "certainty").

Now and then a fork of the line is told to close its thinking and to answer. Once the last few
answers are the same, more thinking would hardly change them, and the line's own thinking may close.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from steersman.search.vote import canonical
from steersman.thinking.governing import Probing
from steersman.trajectory.phases import Markers, thinking_span

Ask = Callable[[Sequence[int]], Awaitable[str]]
"""The answer of a fork, given the tokens that the line has generated so far."""
Settle = Callable[[], Awaitable[None]]
"""Lets the line's thinking close."""

logger = logging.getLogger(__name__)


class Prober:
    """Probes one line, one question at a time.

    A question that fails is the last one: the line goes on without any. What ends the line as well
    comes to it by itself.

    Args:
        probing: When to ask, and when to believe.
        markers: The model's thinking markers.
        opened: Whether the prompt left the thinking phase open.
        ask: Asks a fork of the line.
        settle: Called once, when the answers agree.

    """

    def __init__(
        self, probing: Probing, markers: Markers, ask: Ask, settle: Settle, *, opened: bool
    ) -> None:
        self._probing = probing
        self._markers = markers
        self._opened = opened
        self._ask = ask
        self._settle = settle
        self._answers: list[str] = []
        self._next = probing.every
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def watch(self, token_ids: Sequence[int]) -> None:
        """The line has come so far."""
        if self._over or len(token_ids) < self._next:
            return
        if self._task is not None and not self._task.done():
            return
        self._next = len(token_ids) + self._probing.every
        span = thinking_span(token_ids, self._markers, opened=self._opened)
        if span is not None and span.closing is None:
            self._task = asyncio.create_task(self._probe([*token_ids]))

    async def stop(self) -> None:
        """Ask nothing more, and leave nothing running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _probe(self, token_ids: Sequence[int]) -> None:
        try:
            self._answers.append(canonical(await self._ask(token_ids)))
            last = self._answers[-self._probing.agree :]
            if len(last) == self._probing.agree and last[0] and len({*last}) == 1:
                self._over = True
                await self._settle()
        except Exception as error:
            self._over = True
            logger.warning("A line is not asked for its answer any more: %r", error)
