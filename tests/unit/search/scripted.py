"""A scripted engine: lines that say what the test wants, one token a tick, without a model."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from steersman.trajectory.line import ABORTED, Line, Piece

OPEN, CLOSE = 1, 2
"""Token ids of the thinking markers in scripts."""
WORDS = {OPEN: "<think>", CLOSE: "</think>"}


@dataclass(frozen=True)
class Script:
    """What one branch does: its tokens (by default words of its branch), then how it ends."""

    tokens: Sequence[int | str]
    finish_reason: str = "stop"
    error: Exception | None = None


@dataclass
class ScriptedSource:
    """Plays scripts in lockstep: every running branch yields one token in each round."""

    scripts: Sequence[Script]
    stopped: int = 0
    started: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, line: Line[int]) -> AsyncGenerator[Piece[int], None]:
        script = self.scripts[line.branch]
        self.started.append(line.branch)
        try:
            for i, token in enumerate(script.tokens):
                for _ in range(3):  # a round: every other branch gets its turn
                    await asyncio.sleep(0)
                if self._stop.is_set():
                    yield Piece((), "", ABORTED, i)
                    return
                last = i == len(script.tokens) - 1
                if last and script.error is not None:
                    raise script.error
                yield self._piece(token, script.finish_reason if last else None, i)
        finally:
            self.ended.append(line.branch)

    async def stop(self) -> None:
        self.stopped += 1
        self._stop.set()

    @staticmethod
    def _piece(token: int | str, finish_reason: str | None, i: int) -> Piece[int]:
        if isinstance(token, int):
            return Piece((token,), WORDS[token], finish_reason, i)
        return Piece((100 + len(token),), token, finish_reason, i)


def lines(count: int) -> list[Line[int]]:
    return [Line(branch) for branch in range(count)]
