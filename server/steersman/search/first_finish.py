"""First Finish Search (Agarwal et al., arXiv 2505.18149, algorithm 1) and its vote FFS-k@N.

Launch n independent samples of the same prompt; the first that finishes is the answer, and the
rest are aborted at once. A sample that ran into its token limit, has no answer or hardly thought
has not finished in the sense of the method, so it cannot win while others run.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from steersman.search.vote import majority
from steersman.trajectory.line import Line, Source
from steersman.trajectory.phases import Markers, Phases, split

OutputT = TypeVar("OutputT")


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of a search: its end, and the lines that may win it.

    Attributes:
        voters: Finishers awaited and put to the vote; 1 for no vote.
        choices: Winners to return; more than one only without a vote.
        require_answer: A line without an answer cannot win while others run.
        min_thinking: A line that thought fewer tokens cannot win while others run.
        markers: The model's thinking markers.
        opened: Whether the prompt left the thinking phase open.

    """

    voters: int = 1
    choices: int = 1
    require_answer: bool = True
    min_thinking: int = 0
    markers: Markers | None = None
    opened: bool = False

    @property
    def awaited(self) -> int:
        return max(self.voters, self.choices)

    def phases(self, line: Line[OutputT]) -> Phases:
        return split(line.token_ids, line.text, self.markers, opened=self.opened)

    def rank(self, line: Line[OutputT]) -> int:
        """Rank of a finished line by the rules: 0 may win at once, more is worse."""
        if line.finish_reason != "stop":
            return 3
        phases = self.phases(line)
        if self.require_answer and not phases.has_answer:
            return 2
        return 1 if phases.thinking_tokens < self.min_thinking else 0


@dataclass(frozen=True, slots=True)
class Outcome(Generic[OutputT]):
    """The winners in the order of the choices, and how they were found.

    Attributes:
        decided_by: `first`, `vote`, or `fallback` when too few lines met the rules and the best
            of the others had to fill in.
        votes: Answers and their votes, when there was a vote.

    """

    winners: tuple[Line[OutputT], ...]
    decided_by: Literal["first", "vote", "fallback"]
    votes: tuple[tuple[str, int], ...] | None = None


async def first_finish(
    source: Source[OutputT], lines: Sequence[Line[OutputT]], rules: Rules
) -> Outcome[OutputT]:
    """Run all lines until enough of them have finished, then stop the rest.

    Args:
        source: Where the lines run.
        lines: Empty records, one for each sibling. They are filled while the search runs, so a
            caller can watch them.
        rules: When to stop and who may win.

    Raises:
        BaseExceptionGroup: An engine error of a line; the others are cancelled.

    """
    finishers: list[tuple[int, Line[OutputT]]] = []
    stopped = False

    async def run(line: Line[OutputT]) -> None:
        nonlocal stopped
        async for piece in source.follow(line):
            line.add(piece)
        if not line.finished:
            return
        finishers.append((rules.rank(line), line))
        if not stopped and sum(rank == 0 for rank, _ in finishers) >= rules.awaited:
            stopped = True
            await source.stop()

    async with asyncio.TaskGroup() as siblings:
        for line in lines:
            siblings.create_task(run(line))
    return _decide(finishers, lines, rules)


def _decide(
    finishers: list[tuple[int, Line[OutputT]]], lines: Sequence[Line[OutputT]], rules: Rules
) -> Outcome[OutputT]:
    # The sort is stable: among equals, the order in which they finished.
    finishers.sort(key=lambda finisher: finisher[0])
    able = [line for rank, line in finishers if rank == 0]
    if rules.voters > 1 and able:
        voters = able[: rules.voters]
        tally = majority([rules.phases(line).answer or "" for line in voters])
        return Outcome((voters[tally.winner],), "vote", tally.votes)
    # Unfinished lines come last: they are all there is when somebody else aborted the request.
    ranked = [line for _, line in finishers] + [line for line in lines if not line.finished]
    winners = tuple(ranked[: rules.choices])
    return Outcome(winners, "first" if len(able) >= rules.choices else "fallback")
