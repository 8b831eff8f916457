"""A toy language model as a source of trajectories: repeatable, in lockstep, with forks."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from random import Random

from steersman.trajectory.trajectory import ABORTED, Piece, Start, Trajectory

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
    ) -> None:
        self.started: list[Trajectory[str]] = []
        self.running = 0
        self.refuses_forks = False
        self._seed = seed
        self._longest = longest
        self._fails_at = fails_at
        self._endless = endless
        self._stopping: set[Trajectory[str]] = set()

    def start_all(self, starts: Sequence[Start[str]]) -> Sequence[Trajectory[str]]:
        if self.refuses_forks and any(start.begun for start in starts):
            raise ConnectionError("the queue is full")
        trajectories = [Trajectory(start) for start in starts]
        for trajectory in trajectories:
            trajectory.seed = self._seed_of(trajectory.start)
            trajectory.steps = self._steps(trajectory)
        self.started.extend(trajectories)
        return trajectories

    async def stop(self, trajectories: Sequence[Trajectory[str]]) -> None:
        self._stopping.update(trajectories)

    async def close_thinking(self, trajectory: Trajectory[str]) -> None:
        await asyncio.sleep(0)

    def draws(self, seed: int, position: int) -> tuple[int, bool]:
        """The token at a position of a trajectory, and whether it is the last one."""
        random = Random(f"{seed} {position}")
        return random.randrange(len(WORDS)), random.random() < _LAST and not self._endless

    def _seed_of(self, start: Start[str]) -> int:
        return self._seed + start.branch if start.seed is None else start.seed

    async def _steps(self, trajectory: Trajectory[str]) -> AsyncGenerator[Piece[str], None]:
        start = trajectory.start
        self.running += 1
        try:
            if start.begun and not start.bare:
                before = (
                    start.prefix.trajectory.token_ids[: start.prefix.tokens] if start.prefix else []
                )
                yield _add(trajectory, [*before, *start.suffix], None)
            limit = self._longest - start.begun if start.max_tokens is None else start.max_tokens
            for count in range(1, limit + 1):
                await asyncio.sleep(0)
                if trajectory in self._stopping:
                    yield _add(trajectory, [], ABORTED)
                    return
                position = start.begun + count - 1
                if position == self._fails_at:
                    raise ConnectionError("the engine is dead")
                token, last = self.draws(self._seed_of(start), position)
                reason = "stop" if last else "length" if count == limit else None
                yield _add(trajectory, [token], reason)
                if last:
                    return
        finally:
            self.running -= 1


def _add(trajectory: Trajectory[str], token_ids: Sequence[int], reason: str | None) -> Piece[str]:
    text = "".join(WORDS[token] for token in token_ids)
    piece = Piece(tuple(token_ids), text, reason, text)
    trajectory.add(piece)
    return piece
