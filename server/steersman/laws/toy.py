"""A toy language model as a source of trajectories: repeatable, in lockstep, with forks."""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Sequence
from random import Random

from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import ABORTED, Piece, Start, Trajectory
from steersman_kernels.layout import Value

WORDS = ("so", " 4", " 7", " or", " then", "\n")
_LAST = 0.12
"""Probability that a token is the last one."""


class ToySource:
    """Draws words that depend on nothing but the seed of a trajectory and the position in it.

    Every running trajectory draws one token in each round.

    Args:
        seed: Seed of the request; a trajectory's own is this plus its branch.
        longest: Tokens at which a response is cut off.
        fails_at: Position at which drawing raises an error; None for never.
        endless: Whether no response ends but by its length.
        room: Trajectories that are drawn at a time; the others wait before they begin.
        together: Tokens of a piece.

    Attributes:
        started: All trajectories that were admitted.
        running: The number of those that are being drawn.
        refuses_forks: Whether forks are refused.

    """

    def __init__(
        self,
        seed: int = 0,
        longest: int = 24,
        fails_at: int | None = None,
        *,
        endless: bool = False,
        room: int = 1 << 30,
        together: int = 1,
    ) -> None:
        self.started: list[Trajectory[str]] = []
        self.running = 0
        self.refuses_forks = False
        self._seed = seed
        self._longest = longest
        self._fails_at = fails_at
        self._endless = endless
        self._room = asyncio.Semaphore(room)
        self._together = together
        self._stopping: set[Trajectory[str]] = set()

    def start_all(self, starts: Sequence[Start[str]]) -> Sequence[Trajectory[str]]:
        if self.refuses_forks and any(start.forked for start in starts):
            raise ConnectionError("the queue is full")
        trajectories = [Trajectory(start, excerpts=_excerpt) for start in starts]
        for trajectory in trajectories:
            trajectory.seed = self._seed_of(trajectory.start)
            trajectory.steps = self._steps(trajectory)
        self.started.extend(trajectories)
        return trajectories

    async def stop(self, trajectories: Sequence[Trajectory[str]]) -> None:
        self._stopping.update(trajectories)

    async def close_thinking(self, trajectory: Trajectory[str]) -> None:
        await asyncio.sleep(0)

    def draws(self, seed: int, before: Sequence[int]) -> tuple[int, bool]:
        """The token that a trajectory draws after those before, and whether it is the last one."""
        random = Random(f"{seed} {len(before)}")
        return random.randrange(len(WORDS)), random.random() < _LAST and not self._endless

    def measured(self, before: Sequence[int], token: int) -> Value:
        """Measurements at a token."""
        random = Random(f"{before} {token}")
        entropy, logprob = random.uniform(0, 2), -random.expovariate(1)
        return Value(
            entropy=entropy,
            logprob=logprob,
            top=math.exp(-entropy),
            processed_entropy=entropy,
            processed_logprob=logprob,
            confidence=logprob - 1,
            strength=0,
            closed_by=0,
            forced=0,
        )

    def _seed_of(self, start: Start[str]) -> int:
        return self._seed + start.branch if start.seed is None else start.seed

    async def _steps(self, trajectory: Trajectory[str]) -> AsyncGenerator[Piece[str], None]:
        async with self._room, contextlib.aclosing(self._drawn(trajectory)) as drawn:
            async for piece in drawn:
                yield piece

    async def _drawn(self, trajectory: Trajectory[str]) -> AsyncGenerator[Piece[str], None]:
        start, track = trajectory.start, Track()
        trajectory.track = None if start.bare else track
        self.running += 1
        try:
            before = [*start.suffix]
            if start.prefix is not None:
                parent, tokens = start.prefix.trajectory, start.prefix.tokens
                before = [*parent.token_ids[:tokens], *before]
                track.values.extend(parent.track.values[:tokens] if parent.track else ())
            track.values.extend(Value.undrawn().packed() for _ in start.suffix)
            if before and not start.bare:
                yield self._add(trajectory, before, None)
            limit = self._longest - start.begun if start.max_tokens is None else start.max_tokens
            new: list[int] = []
            for count in range(1, limit + 1):
                await asyncio.sleep(0)
                if trajectory in self._stopping:
                    yield self._add(trajectory, new, ABORTED)
                    return
                if start.begun + count - 1 == self._fails_at:
                    raise ConnectionError("the engine is dead")
                so_far = [*(before if start.bare else ()), *trajectory.token_ids, *new]
                token, last = self.draws(self._seed_of(start), so_far)
                track.values.append(self.measured(so_far, token).packed())
                reason = "stop" if last else "length" if count == limit else None
                new.append(token)
                if reason is None and len(new) < self._together:
                    continue
                yield self._add(trajectory, new, reason)
                new = []
                if reason is not None:
                    return
        finally:
            self.running -= 1

    def _add(
        self, trajectory: Trajectory[str], token_ids: Sequence[int], reason: str | None
    ) -> Piece[str]:
        text = "".join(WORDS[token] for token in token_ids)
        piece = Piece(tuple(token_ids), text, reason, text)
        trajectory.add(piece)
        if trajectory.track is not None:
            trajectory.track.add(token_ids)
        return piece


def _excerpt(
    trajectory: Trajectory[str], begin: int, end: int, text: int, finish_reason: str | None
) -> Piece[str]:
    written = trajectory.text_of(end, text)
    return Piece(tuple(trajectory.token_ids[begin:end]), written, finish_reason, written)
