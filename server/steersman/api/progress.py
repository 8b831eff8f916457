"""Events of a stream beside its answer: the progress of the request's branches."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steersman.api.answer import Answer
from steersman.api.chunks import ChunkHead
from steersman.ledger import Ledger
from steersman.trajectory.trajectory import Trajectory
from steersman_client import Branch, Event, Progress

COMMENT_SECONDS = 1.0
"""An idle stream gets a comment this often, so that no proxy takes it for dead."""
EVENT_SECONDS = 0.2
"""How often there are events."""


@dataclass(slots=True)
class Events:
    """Makes the events of one request.

    Attributes:
        ledger: Its books.
        kinds: The kinds that it asked for.

    """

    ledger: Ledger
    kinds: frozenset[Event]
    _told: dict[Trajectory[Any], tuple[int, str]] = field(default_factory=dict)  # pieces, state
    _trials_told: dict[Trajectory[Any], int] = field(default_factory=dict)
    _steps_told: dict[int, int] = field(default_factory=dict)  # by the number of the generation

    def take(self) -> dict[str, Any]:
        """The events since the last call, by kind; of a kind nothing if there is nothing new."""
        makers: dict[Event, Callable[[], Any]] = {
            "progress": lambda: progress(self.ledger).model_dump(mode="json"),
            "leader": self._leader,
            "branches": self._branches,
            "trials": self._trials,
            "steps": self._steps,
        }
        made = {kind: makers[kind]() for kind in makers if kind in self.kinds}
        return {kind: event for kind, event in made.items() if event}

    def _leader(self) -> dict[str, Any] | None:
        generations = self.ledger.generations
        leader = generations[-1].leader() if generations else None
        return leader.model_dump(mode="json") if leader and leader.text else None

    def _branches(self) -> list[dict[str, Any]]:
        news = (self._news(branch) for branch in self._last_branches())
        return [branch.model_dump(mode="json") for branch in news if branch is not None]

    def _trials(self) -> list[dict[str, Any]]:
        news: list[dict[str, Any]] = []
        for branch in self._last_branches():
            told = self._trials_told.get(branch, 0)
            trials = branch.sampling.trials[told:] if branch.sampling is not None else []
            self._trials_told[branch] = told + len(trials)
            news.extend(one.model_dump(mode="json") for one in trials)
        return news

    def _steps(self) -> list[dict[str, Any]]:
        generations = self.ledger.generations
        steps = generations[-1].steps if generations else []
        # A tool loop has searches in turn, each with steps of its own.
        told = self._steps_told.get(len(generations), 0)
        self._steps_told[len(generations)] = len(steps)
        return [step.model_dump(mode="json") for step in steps[told:]]

    def _last_branches(self) -> list[Trajectory[Any]]:
        generations = self.ledger.generations
        return generations[-1].branches if generations else []

    def _news(self, trajectory: Trajectory[Any]) -> Branch | None:
        shown, state = self._told.get(trajectory, (0, ""))
        text, now = trajectory.text_from(shown), _state(trajectory)
        if not text and now == state:
            return None
        self._told[trajectory] = (len(trajectory.pieces), now)
        return Branch(branch=trajectory.branch, tokens=trajectory.tokens, text=text, state=now)


def _state(trajectory: Trajectory[Any]) -> Any:
    if trajectory.running:
        return "running"
    if trajectory.failed:
        return "failed"
    return "cancelled" if trajectory.aborted else "finished"


def progress(ledger: Ledger) -> Progress:
    """Progress of the branches of a request."""
    return Progress(finished=ledger.finished, running=ledger.running, tokens=ledger.sampled_tokens)


class Reporter:
    """Reports on one request in its stream: events, or comments while the stream is idle.

    Args:
        ledger: The books of the request.
        kinds: The kinds of events that it asked for; none for comments.
        head: The common fields of its chunks; None where events travel as comments.

    """

    def __init__(self, ledger: Ledger, kinds: frozenset[Event], head: ChunkHead | None) -> None:
        self._ledger = ledger
        self._kinds = kinds
        self._head = head
        self._created = int(time.time())
        self._events = Events(ledger, kinds)

    async def report(self, answer: Answer) -> None:
        """Report in a stream until cancelled."""
        created = None if self._head is None else self._created
        while True:
            sent = answer.sent
            await asyncio.sleep(EVENT_SECONDS if self._kinds else COMMENT_SECONDS)
            if self._kinds:
                await answer.interject(lambda: self.news(self._created), created)
            elif answer.sent == sent and self._ledger.busy:
                await answer.interject(self._progress)

    def news(self, created: int) -> bytes:
        """The events since the last ones, as a whole event of the stream; nothing without any.

        Args:
            created: When the stream began, in seconds.

        """
        if not (made := self._events.take()):
            return b""
        if self._head is None:
            return _comment(made)
        return f"data: {json.dumps(self._head.chunk(created, made))}\n\n".encode()

    def _progress(self) -> bytes:
        return _comment(progress(self._ledger).model_dump(mode="json"))


def _comment(content: Mapping[str, Any]) -> bytes:
    return f": steersman {json.dumps(content)}\n\n".encode()
