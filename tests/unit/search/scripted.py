"""A scripted source: trajectories that say what a test wants, a token a tick, without a model."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from steersman.search.policy import Search
from steersman.trajectory.phases import Markers
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import ABORTED, Piece, Start, Trajectory

OPEN, CLOSE = 1, 2
"""Token ids of the thinking markers in scripts."""
WORDS = {OPEN: "<think>", CLOSE: "</think>"}
MARKERS = Markers(start=(OPEN,), end=(CLOSE,), start_text="<think>", end_text="</think>")


@dataclass(frozen=True)
class Script:
    """A branch: its tokens (by default words of its branch), then how it ends."""

    tokens: Sequence[int | str]
    finish_reason: str = "stop"
    error: Exception | None = None


@dataclass
class ScriptedSource:
    """Plays scripts in lockstep: every running branch yields one token in each round.

    Attributes:
        scripts: By branch.
        stopped: Calls of `stop` so far.
        started: Branches that have begun, in order.
        ended: Branches that have ended, in order.

    """

    scripts: Sequence[Script]
    stopped: int = 0
    started: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    _stopping: set[int] = field(default_factory=set)

    def start_all(self, starts: Sequence[Start[int]]) -> list[Trajectory[int]]:
        trajectories = [Trajectory(start) for start in starts]
        for trajectory in trajectories:
            trajectory.steps = self._play(trajectory)
        return trajectories

    async def stop(self, trajectories: Sequence[Trajectory[int]]) -> None:
        self.stopped += 1
        self._stopping.update(one.branch for one in trajectories)

    async def close_thinking(self, trajectory: Trajectory[int]) -> None:
        raise NotImplementedError

    async def _play(self, trajectory: Trajectory[int]) -> AsyncGenerator[Piece[int], None]:
        script = self.scripts[trajectory.branch]
        self.started.append(trajectory.branch)
        try:
            for i, token in enumerate(script.tokens):
                for _ in range(3):  # a round: every other branch gets its turn
                    await asyncio.sleep(0)
                stopping = trajectory.branch in self._stopping
                last = i == len(script.tokens) - 1
                if last and script.error is not None:
                    raise script.error
                step = (
                    Piece((), "", ABORTED, i)
                    if stopping
                    else _piece(token, script.finish_reason if last else None, i)
                )
                trajectory.add(step)
                yield step
                if stopping:
                    return
        finally:
            self.ended.append(trajectory.branch)


def _piece(token: int | str, finish_reason: str | None, i: int) -> Piece[int]:
    if isinstance(token, int):
        return Piece((token,), WORDS[token], finish_reason, i)
    return Piece((100 + len(token),), token, finish_reason, i)


def scripted(
    scripts: Sequence[Script], choices: int = 1, markers: Markers | None = None
) -> Search[int]:
    """A search on scripts."""
    return Search(ScriptedSource(scripts), choices, Reading(markers))
