"""A reward as the server calls it: in batches, in time, counted, and with scores to rely on."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from steersman.reward.candidate import Candidate, See
from steersman.reward.error import RewardError
from steersman.reward.reward import LARGEST, Reward

if TYPE_CHECKING:
    from steersman.reward.counting import RewardCounting

_ENDING_SECONDS = 1.0
"""How long a cancelled reward may take to end before nobody waits for it any more."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Spent:
    """The cost of one request's scores, so far.

    Attributes:
        reward_calls: Responses that were given to a reward, once for each reward.
        reward_tokens: Tokens of those responses, as far as the rewards saw them.

    """

    reward_calls: int = 0
    reward_tokens: int = 0


@dataclass(slots=True, eq=False)
class _Call:
    """One call of `score`: its candidates, and their scores as they come."""

    spent: Spent
    done: asyncio.Future[None]
    missing: int
    scores: dict[int, float] = field(default_factory=dict)

    def put(self, index: int, score: float) -> None:
        self.scores[index] = score
        if len(self.scores) == self.missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: RewardError) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # seen, should nobody wait for it any more


@dataclass(frozen=True, slots=True)
class _Item:
    call: _Call
    index: int
    candidate: Candidate


class Counted:
    """A named reward of the server, shared by all requests.

    Calls that wait at the same time are scored together, one batch after another. A batch that
    fails is scored once more, the candidates of each call by themselves: no request has to bear the
    fault of another. Scores are clamped to ±40, and a response whose thinking is not closed has -40
    without being looked at.

    Args:
        name: Its name on this server.
        reward: The reward.

    """

    def __init__(self, name: str, reward: Reward[Any]) -> None:
        self.name = name
        self.reward = reward
        self.counting: RewardCounting | None = None
        self._waiting: deque[_Item] = deque()
        self._running: list[_Item] = []
        self._runner: asyncio.Task[None] | None = None
        self._refusal: str | None = None

    async def score(
        self,
        candidates: Sequence[Candidate],
        spent: Spent | None = None,
        see: See | None = None,
    ) -> tuple[float, ...]:
        """The candidates' scores, in their order.

        Args:
            candidates: Responses, of which all may be seen; the reward sees what it is to judge.
            spent: Where the cost is added.
            see: That part of them; None for the reward's own choice.

        Raises:
            RewardError: It failed, took too long, gave scores that are none, or is not asked any
                more.

        """
        if self._refusal is not None:
            raise RewardError(self.name, self._refusal, refused=True)
        judged = [
            (index, candidate.seen(see or self.reward.options.see))
            for index, candidate in enumerate(candidates)
            if candidate.closed
        ]
        scores = dict.fromkeys(range(len(candidates)), -LARGEST)
        if judged:
            future = asyncio.get_running_loop().create_future()
            call = _Call(spent or Spent(), future, len(judged))
            self._waiting.extend(_Item(call, index, candidate) for index, candidate in judged)
            if self._runner is None:
                # It belongs to no request, so neither do the variables of its context.
                self._runner = asyncio.create_task(self._run(), context=Context())
            try:
                await call.done
            except asyncio.CancelledError:
                await self._end_if_unwanted()
                raise
            scores.update(call.scores)
        return tuple(scores.values())

    def refuse(self, reason: str) -> int:
        """Ask the reward no more: calls that wait, and those to come, end with an error.

        Returns:
            The number of responses that waited.

        """
        self._refusal = reason
        items = (*self._running, *self._waiting)
        for item in items:
            item.call.fail(RewardError(self.name, reason, refused=True))
        return len(items)

    async def close(self) -> None:
        """Give up what is being scored, and free what the reward holds."""
        self.refuse("the server is shutting down")
        await self._end_if_unwanted()
        await self.reward.close()

    async def _end_if_unwanted(self) -> None:
        if any(not item.call.done.done() for item in (*self._running, *self._waiting)):
            return
        runner, self._runner = self._runner, None
        if runner is not None:
            await _cancelled(runner)

    async def _run(self) -> None:
        await asyncio.sleep(0)  # those that call at the same moment come together
        while batch := self._next():
            self._running = batch
            await self._score(batch)
            self._running = []
        if self._runner is asyncio.current_task():
            self._runner = None

    def _next(self) -> list[_Item]:
        """The next batch: what waits, as far as somebody still waits for it."""
        batch: list[_Item] = []
        while self._waiting and len(batch) < self.reward.options.max_batch:
            item = self._waiting.popleft()
            if not item.call.done.done():
                item.call.spent.reward_calls += 1
                item.call.spent.reward_tokens += item.candidate.tokens
                batch.append(item)
        return batch

    async def _score(self, batch: Sequence[_Item]) -> None:
        error = await self._attempt(batch)
        by_call: dict[_Call, list[_Item]] = {}
        for item in batch:
            if not item.call.done.done():
                by_call.setdefault(item.call, []).append(item)
        if error is None or not by_call:
            return
        if self.counting is not None:
            self.counting.failed(self.name, "timeout" if error.timed_out else "failed")
        logger.warning("%s", error, exc_info=error.__cause__)
        if len({item.call for item in batch}) == 1:
            batch[0].call.fail(error)
            return
        async with asyncio.TaskGroup() as group:
            for items in by_call.values():
                group.create_task(self._score(items))

    async def _attempt(self, batch: Sequence[_Item]) -> RewardError | None:
        """Score a batch; the error, if it did not work."""
        seconds, began = self.reward.options.timeout, time.perf_counter()
        task = asyncio.create_task(self._scores(batch))
        calls = {item.call for item in batch}

        def stop_if_unwanted(_: object) -> None:
            if all(call.done.done() for call in calls):
                task.cancel()

        for call in calls:
            call.done.add_done_callback(stop_if_unwanted)
        try:
            await asyncio.wait((task,), timeout=seconds)
        finally:
            for call in calls:
                call.done.remove_done_callback(stop_if_unwanted)
            late = not task.done()
            if self.counting is not None:
                self.counting.ended(self.name, time.perf_counter() - began)
            if late:
                await _cancelled(task)
        if late:
            return RewardError(self.name, f"took over {seconds:g} s", timed_out=True)
        if task.cancelled():
            return RewardError(self.name, "was cancelled")
        fault = task.exception()
        if fault is not None:
            error = RewardError(self.name, f"failed: {type(fault).__name__}: {fault}")
            error.__cause__ = fault
            return error
        for item, score in zip(batch, task.result(), strict=True):
            item.call.put(item.index, score)
        return None

    async def _scores(self, batch: Sequence[_Item]) -> list[float]:
        given = await self.reward.score([item.candidate for item in batch])
        scores = [_usable(score) for score in given]
        if len(scores) != len(batch):
            raise ValueError(f"{len(scores)} scores for {len(batch)} responses")
        return scores


def _usable(score: object) -> float:
    if not isinstance(score, Real):
        raise ValueError(f"a score is no number but {type(score).__name__}")
    number = float(score)
    if math.isnan(number):
        raise ValueError("a score is NaN")
    return max(-LARGEST, min(LARGEST, number))


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    """Cancel a task, and wait a moment for its end."""
    task.cancel()
    await asyncio.wait((task,), timeout=_ENDING_SECONDS)
    if task.done() and not task.cancelled():
        task.exception()  # seen: nobody asks for it any more
