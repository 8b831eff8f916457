"""Rewards and candidates that many tests build on."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from steersman.reward.candidate import Candidate
from steersman.reward.reward import Reward, RewardSpec
from steersman_kernels.layout import Value
from tests.unit.tracks import packed


class MadeUpSpec(RewardSpec):
    type: Literal["made_up"] = "made_up"


class MadeUp(Reward[MadeUpSpec]):
    """Scores by a function of one candidate; keeps the batches, and can be held up.

    Attributes:
        batches: The texts of each batch that it was given.
        held: None, or set when it may go on.
        running: Calls that run.

    """

    spec = MadeUpSpec

    def __init__(
        self, by: Callable[[Candidate], Any] | None = None, *, held: bool = False, **options: Any
    ) -> None:
        super().__init__(MadeUpSpec(**options))
        self._by = by or (lambda candidate: len(candidate.text))
        self.batches: list[list[str]] = []
        self.go_on = asyncio.Event()
        self.running = 0
        self.closed = False
        if not held:
            self.go_on.set()

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        self.batches.append([candidate.text for candidate in candidates])
        self.running += 1
        try:
            await self.go_on.wait()
            return [self._by(candidate) for candidate in candidates]
        finally:
            self.running -= 1

    async def close(self) -> None:
        self.closed = True


def answer(text: str | None, **fields: Any) -> Candidate:
    """A candidate without thinking: a token a character, all of them the answer's."""
    tokens = len(text or "")
    return Candidate(text or "…", text, tokens=tokens, answer_tokens=tokens, **fields)


def track(*values: tuple[float, float, float, int]) -> Any:
    """A track by rows: entropy, log-prob, top probability, and whether the token was put there."""
    rows = [
        Value.of(packed(entropy, logprob, top=top, forced=int(forced)))
        for entropy, logprob, top, forced in values
    ]
    return np.array(rows, np.float64)
