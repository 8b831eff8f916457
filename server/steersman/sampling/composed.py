"""One cautious trajectory, as it is put together from trials."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Generic

from steersman.sampling.sampler import Record
from steersman.sampling.trials import Trial, complete, known, likeliest, number_of_trials, value
from steersman.trajectory.phases import closes_at, thinking_span
from steersman.trajectory.reading import Reading
from steersman.trajectory.seeds import derived
from steersman.trajectory.together import Running
from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import (
    ABORTED,
    OutputT,
    Piece,
    Prefix,
    Source,
    Start,
    Trajectory,
)
from steersman_client import Cautious, TrialResult, Trials

STOP_MARKS = (".", ",", "\n", "?", "!", ":", ";", ")", "]", "}")
"""Texts that end a trial, those of the authors' code."""


@dataclass(slots=True)
class CautiousRecord(Record):
    """Record of one cautious trajectory.

    Attributes:
        branch_points: Tokens at which trials were drawn.
        trial_count: Trials, the first ones included.
        winners: Trials that won; as many as branch points that were decided.
        losers: Trials that came to their end and lost.
        winner_tokens: Tokens of the winners.
        loser_tokens: Tokens of the losers.
        entropies: Sum over the branch points, nats.
        degraded: Branch points at which a trial was refused or failed.
        lost_tokens: Tokens sampled for the trajectory that are not part of it.

    """

    branch_points: int = 0
    trial_count: int = 0
    winners: int = 0
    losers: int = 0
    winner_tokens: int = 0
    loser_tokens: int = 0
    entropies: float = 0.0
    degraded: int = 0
    lost_tokens: int = 0


@dataclass(slots=True)
class Branching(Generic[OutputT]):
    """The trials at one token.

    Attributes:
        at: Index of the token.
        trials: Those that may win; the first one's trajectory is the one that came so far.
        ended: All that came to their ends.
        refused: Whether one of them was refused or has failed.

    """

    at: int
    trials: list[Trial[OutputT]]
    ended: list[Trial[OutputT]] = field(default_factory=list)
    refused: bool = False

    @property
    def decided(self) -> bool:
        return len(self.trials) == 1 and self.trials[0].end is not None


class Composed(Generic[OutputT]):
    """A trajectory, as it is put together.

    Args:
        whole: Its record.
        first: The trajectory that it begins with.
        source: Where its forks are started.
        spec: Where to branch, and how often.
        reading: Where the phases of a response begin and end.

    Attributes:
        current: The trajectory that it goes on with.
        record: The sampler's record.

    """

    def __init__(
        self,
        whole: Trajectory[OutputT],
        first: Trajectory[OutputT],
        source: Source[OutputT],
        spec: Cautious,
        reading: Reading,
    ) -> None:
        self.current = self._first = first
        self.record = CautiousRecord()
        self._whole = whole
        self._source = source
        self._spec = spec
        self._reading = reading
        self._marks = STOP_MARKS if spec.stop_marks is None else spec.stop_marks
        self._running: Running[OutputT] = Running()
        self._all = [first]
        self._branching: Branching[OutputT] | None = None
        self._thinking = False  # at the branch point
        self._end = 0  # tokens that are decided
        self._ready = first.start.after  # tokens one after another up to the last decision
        self._text = 0  # characters that are given out
        self._stopped = False

    def stop(self) -> list[Trajectory[OutputT]]:
        """End it with what is there; return the trajectories that are to be aborted."""
        self._stopped = True
        self._running.wake()
        return [one for one in self._all if one.running]

    async def steps(self) -> AsyncGenerator[Piece[OutputT], None]:
        """Run it, and record each piece as it comes."""
        whole = self._whole
        self._running.add(self._first)
        try:
            while whole.running:
                piece = self._last() if self._stopped else await self._go_on()
                if piece is not None:
                    self._add(piece)
                    yield piece
                else:
                    await self._running.news()
        finally:
            await self._running.close()
            whole.steered = self.current.steered
            self.record.lost_tokens = sum(one.sampled_tokens for one in self._all) - (
                whole.sampled_tokens
            )

    def _add(self, piece: Piece[OutputT]) -> None:
        whole, current = self._whole, self.current
        begin, end = whole.tokens, whole.tokens + len(piece.token_ids)
        if current.track is not None:
            whole.track = whole.track or Track()
            whole.track.add(piece.token_ids)
            whole.track.values.extend(current.track.values[begin:end])
        whole.seed = self._first.seed
        whole.add(piece)
        self._text += len(piece.text)

    async def _go_on(self) -> Piece[OutputT] | None:
        """The next piece, as far as it is decided; None if nothing is."""
        while True:
            self._raise_errors()
            if self._branching is None:
                trials = self._scan()
                if trials == 1:
                    break
                self._branch(trials)
            if not await self._judged():
                break
        current = self.current
        over = self._branching is None and complete(current)
        over = over and self._end >= len(current.token_ids)
        # Tokens and their text go out together: of a step that is cut they are not yet known apart.
        end = current.in_steps(self._end)
        if end <= self._whole.tokens and not over:
            return None
        return self._piece(end, current.finish_reason if over else None)

    def _last(self) -> Piece[OutputT] | None:
        """The last piece of a trajectory that was stopped; None while it is awaited."""
        if (branching := self._branching) is not None:
            ended = [trial for trial in branching.trials if trial.end is not None]
            self.current = likeliest(ended or branching.trials[:1]).trajectory
            self._branching = None
        self._raise_errors()
        if not complete(self.current):
            return None
        self._end = len(self.current.token_ids)
        return self._piece(self._end, ABORTED)

    def _piece(self, end: int, finish_reason: str | None) -> Piece[OutputT]:
        return self.current.excerpt(self._whole.tokens, end, self._text, finish_reason)

    def _raise_errors(self) -> None:
        """Raise the error of the trajectory that it goes on with; a fork that failed is out.

        A first trial that has lost is neither.
        """
        if (branching := self._branching) is None:
            self._running.raise_error(self.current)
            return
        failed = [one for one in branching.trials if self._running.failed(one.trajectory)]
        if failed:
            left = [one for one in branching.trials if one not in failed]
            if not left or failed[0].trajectory is self.current:
                self._running.raise_error(failed[0].trajectory)
            branching.trials = left
            branching.ended = [one for one in branching.ended if one not in failed]
            branching.refused = True

    def _scan(self) -> int:
        """Take the tokens up to the next one that needs trials; return the number of these, 1 where
        the tokens have run out."""
        current, there = self.current, known(self.current)
        # What it begins after is not its own to choose.
        self._end = max(self._end, min(there, self._first.start.begun))
        while self._end < there:
            measured = value(current, self._end)
            trials = (
                1 if measured.forced else number_of_trials(measured.processed_entropy, self._spec)
            )
            if trials > 1:
                return trials
            self._end += 1
        if complete(current):  # without measurements nothing is decided any more
            self._end = len(current.token_ids)
        return 1

    def _branch(self, count: int) -> None:
        """Start trials at the token after those that are decided."""
        at, record = self._end, self.record
        trials = [Trial(0, self.current, at)]
        branching = self._branching = Branching(at, trials)
        record.branch_points += 1
        record.entropies += value(self.current, at).processed_entropy
        self._thinking = self._thinks(at)
        starts = [self._start(number) for number in range(1, count)]
        try:
            forks = self._source.start_all(starts)
        except Exception:  # of any kind: the first trial goes on alone
            branching.refused = True
        else:
            self._all.extend(forks)
            trials.extend(Trial(number, fork, at) for number, fork in enumerate(forks, 1))
            for fork in forks:
                self._running.add(fork)
        record.trial_count += len(trials)

    def _start(self, number: int) -> Start[OutputT]:
        """The start of a fork at the branch point."""
        current, at = self.current, self._end
        begin, spent = current.start, at - current.start.begun
        return Start(
            branch=begin.branch,
            prefix=Prefix(current, at),
            seed=derived(self._first.seed, at, number),
            temperature=begin.temperature,
            whole=begin.whole,
            max_tokens=None if begin.max_tokens is None else max(1, begin.max_tokens - spent),
            after=max(self._ready, begin.after + spent + 1),
        )

    async def _judged(self) -> bool:
        """Abort the trials that can no longer win; return whether one is left."""
        branching = self._branching
        assert branching is not None
        for trial in branching.trials:
            if trial not in branching.ended:
                trial.read(self._ends, self._spec.max_trial_tokens)
                branching.ended.extend([trial] if trial.end is not None else [])
        ended = [trial for trial in branching.trials if trial.end is not None]
        if len(ended) > 1:
            best = likeliest(ended)
            worse = [trial for trial in ended if trial is not best]
            branching.trials = [trial for trial in branching.trials if trial not in worse]
            await self._source.stop([trial.trajectory for trial in worse])
        if not branching.decided:
            return False
        self._decide(branching)
        return True

    def _decide(self, branching: Branching[OutputT]) -> None:
        (winner,), ended, record = branching.trials, branching.ended, self.record
        assert winner.end is not None
        self.current, self._end, self._branching = winner.trajectory, winner.end, None
        for trial in ended:
            begin = trial.trajectory.start
            sampled = begin.after + trial.begin + trial.tokens - begin.begun
            self._ready = max(self._ready, sampled)
        record.winners += 1
        record.winner_tokens += winner.tokens
        record.losers += len(ended) - 1
        record.loser_tokens += sum(trial.tokens for trial in ended) - winner.tokens
        record.degraded += branching.refused
        ended.sort(key=lambda trial: trial.number)
        record.trials.append(
            Trials(
                index=self._whole.branch,
                at=branching.at,
                trials=tuple(
                    TrialResult(trial=one.number, tokens=one.tokens, logprob=one.logprob)
                    for one in ended
                ),
                winner=winner.number,
            )
        )

    def _thinks(self, at: int) -> bool:
        markers, opened = self._reading.markers, self._reading.opened
        if markers is None:
            return False
        span = thinking_span(self.current.token_ids[:at], markers, opened=opened)
        return span is not None and span.closing is None

    def _ends(self, trajectory: Trajectory[OutputT], index: int) -> bool:
        """Tell whether a trial ends at a token: at a stop mark, or with the thinking."""
        text = self._reading.text_of(trajectory.token_ids[index])
        if any(mark in text for mark in self._marks):
            return True
        markers = self._reading.markers
        if not self._thinking or markers is None:
            return False
        return closes_at(trajectory.token_ids, markers, index)
