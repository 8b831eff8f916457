"""Certainty: a trajectory is asked for its answer while it thinks (Dynasor, arXiv 2412.20993).

Now and then a fork of it is told to close its thinking and to answer. Once the last few answers are
the same, more thinking would hardly change them, and the trajectory's own thinking may close.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from steersman.thinking.governing import Probing
from steersman.trajectory.answers import canonical
from steersman.trajectory.phases import Markers, thinking_span
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Piece, Prefix, Source, Start, Trajectory

Ask = Callable[[Sequence[int]], Awaitable[str]]
"""The answer of a fork, given the tokens that the trajectory has generated so far."""
Settle = Callable[[], Awaitable[None]]
"""Lets the trajectory's thinking close."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certainty:
    """Sampler that closes the thinking of each trajectory once its answer is settled.

    Attributes:
        probing: When to ask, and when to believe.

    """

    probing: Probing

    def wrap(self, source: Source[OutputT], reading: Reading) -> Source[OutputT]:
        """A source of the same trajectories, each of them watched."""
        if reading.markers is None:
            return source
        return _Watched(source, self.probing, reading, reading.markers)


class _Watched(Generic[OutputT]):
    def __init__(
        self, source: Source[OutputT], probing: Probing, reading: Reading, markers: Markers
    ) -> None:
        self._source = source
        self._probing = probing
        self._reading = reading
        self._markers = markers

    def start_all(self, starts: Sequence[Start[OutputT]]) -> Sequence[Trajectory[OutputT]]:
        trajectories = self._source.start_all(starts)
        for trajectory in trajectories:
            if not trajectory.start.bare:
                trajectory.steps = self._watch(trajectory, aiter(trajectory))
        return trajectories

    async def stop(self, trajectories: Sequence[Trajectory[OutputT]]) -> None:
        await self._source.stop(trajectories)

    async def close_thinking(self, trajectory: Trajectory[OutputT]) -> None:
        await self._source.close_thinking(trajectory)

    async def _watch(
        self, trajectory: Trajectory[OutputT], steps: AsyncGenerator[Piece[OutputT], None]
    ) -> AsyncGenerator[Piece[OutputT], None]:
        prober = self._prober(trajectory)
        async with contextlib.aclosing(steps):
            try:
                async for piece in steps:
                    prober.watch(trajectory.token_ids)
                    yield piece
            finally:
                await prober.stop()

    def _prober(self, trajectory: Trajectory[OutputT]) -> "Prober":
        async def ask(token_ids: Sequence[int]) -> str:
            start = Start(
                branch=len(trajectory.forks),
                prefix=Prefix(trajectory, len(token_ids)),
                suffix=self._reading.closing,
                temperature=0.0,
                max_tokens=self._probing.max_tokens,
                bare=True,
                after=trajectory.start.after + len(token_ids) - trajectory.start.begun,
            )
            (fork,) = self._source.start_all([start])
            await fork.run()
            return fork.text

        async def settle() -> None:
            await self._source.close_thinking(trajectory)

        return Prober(self._probing, self._markers, ask, settle, opened=self._reading.opened)


class Prober:
    """Probes one trajectory, one question at a time.

    A question that fails is the last one: the trajectory goes on without any. An error that ends
    the trajectory as well reaches it by itself.

    Args:
        probing: When to ask, and when to believe.
        markers: The model's thinking markers.
        opened: Whether the prompt left the thinking phase open.
        ask: Asks a fork of it.
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
        """Take note of the tokens so far."""
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
            logger.warning("A trajectory is not asked for its answer any more: %r", error)
