"""Asking a line for its answer while it thinks (Dynasor, arXiv 2412.20993, "certainty").

Now and then a fork of the line is told to close its thinking and to answer. Once the last few
answers are the same, more thinking would hardly change them, and the line's own thinking may close.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from steersman.search.vote import canonical
from steersman.thinking.governing import Probing
from steersman.trajectory.phases import Markers, thinking_span

Ask = Callable[[Sequence[int]], Awaitable[str]]
"""The answer of a fork, given the tokens that the line has generated so far."""
Settle = Callable[[], Awaitable[None]]
"""Lets the line's thinking close."""


class Prober:
    """Probes one line, one question at a time.

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
        self._settled = False

    def watch(self, token_ids: Sequence[int]) -> None:
        """The line has come so far.

        Raises:
            Exception: What a question failed of.

        """
        if self._task is not None and self._task.done():
            self._task.result()
            self._task = None
        if self._settled or self._task is not None or len(token_ids) < self._next:
            return
        self._next = len(token_ids) + self._probing.every
        span = thinking_span(token_ids, self._markers, opened=self._opened)
        if span is not None and span.closing is None:
            self._task = asyncio.create_task(self._probe([*token_ids]))

    async def stop(self) -> None:
        """Ask nothing more, and leave nothing running.

        A question that has failed since the last look does not matter to a line that has ended.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _probe(self, token_ids: Sequence[int]) -> None:
        self._answers.append(canonical(await self._ask(token_ids)))
        last = self._answers[-self._probing.agree :]
        if len(last) == self._probing.agree and last[0] and len({*last}) == 1:
            self._settled = True
            await self._settle()
