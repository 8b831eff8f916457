"""Cautious Next Token Prediction (Wang et al., arXiv 2507.03038).

Where the distribution of the next token has a high entropy, several short trials are sampled, and
the response goes on from the one of the lowest perplexity.

The token that was drawn there is the first token of the first trial: its trajectory runs on while
the others are forks. Each trial runs on after its end, so that the winner never waits; of two that
have ended the worse is aborted.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from steersman.capabilities import Capabilities
from steersman.errors import ControlError
from steersman.needs import Need
from steersman.request import Request
from steersman.sampling.sampler import Record, Sampler
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


class CautiousSampler(Sampler[Cautious]):
    """Goes on by the likeliest of several trials wherever the model is unsure."""

    spec = Cautious
    needs = frozenset({Need.SAMPLING, Need.FORKS, Need.PROCESSED})

    def check(self, spec: Cautious, request: Request, capabilities: Capabilities) -> None:
        if spec.min_entropy >= spec.max_entropy:
            raise ControlError(
                f"min_entropy ({spec.min_entropy:g}) must be below max_entropy "
                f"({spec.max_entropy:g})",
                param="control.sampler.min_entropy",
            )

    def wrap(self, spec: Cautious, source: Source[OutputT], reading: Reading) -> Source[OutputT]:
        return CautiousSource(source, spec, reading)

    def applied(self, spec: Cautious, records: Sequence[Record]) -> Mapping[str, Any]:
        own = [one for one in records if isinstance(one, CautiousRecord)]

        def total(name: str) -> int:
            return sum(getattr(one, name) for one in own)

        def mean(name: str, count: str) -> float | None:
            of = total(count)
            return round(total(name) / of, 4) if of else None

        return {
            "branch_points": total("branch_points"),
            "trials": total("trial_count"),
            "lost_tokens": total("lost_tokens"),
            "winner_mean_tokens": mean("winner_tokens", "winners"),
            "loser_mean_tokens": mean("loser_tokens", "losers"),
            "mean_entropy": mean("entropies", "branch_points"),
            "degraded": total("degraded"),
        }


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


class CautiousSource(Generic[OutputT]):
    """Source whose trajectories are put together from the trials of others.

    Args:
        source: Where those are started.
        spec: Where to branch, and how often.
        reading: Where the phases of a response begin and end.

    """

    def __init__(self, source: Source[OutputT], spec: Cautious, reading: Reading) -> None:
        self._source = source
        self._spec = spec
        self._reading = reading
        self._lines: dict[Trajectory[OutputT], _Line[OutputT]] = {}

    def start_all(self, starts: Sequence[Start[OutputT]]) -> Sequence[Trajectory[OutputT]]:
        return [self._laid_over(first) for first in self._source.start_all(starts)]

    def excerpt(
        self,
        trajectory: Trajectory[OutputT],
        begin: int,
        end: int,
        text: int,
        finish_reason: str | None,
    ) -> Piece[OutputT]:
        return self._source.excerpt(trajectory, begin, end, text, finish_reason)

    async def stop(self, trajectories: Sequence[Trajectory[OutputT]]) -> None:
        running = [one for one in trajectories if one.running]
        lines = [self._lines[one] for one in running if one in self._lines]
        own = [one for one in running if one not in self._lines]
        for line in lines:
            own.extend(line.stop())
        await self._source.stop(own)

    async def close_thinking(self, trajectory: Trajectory[OutputT]) -> None:
        line = self._lines.get(trajectory)
        await self._source.close_thinking(trajectory if line is None else line.current)

    def _laid_over(self, first: Trajectory[OutputT]) -> Trajectory[OutputT]:
        if first.start.bare:
            return first
        whole: Trajectory[OutputT] = Trajectory(first.start)
        line = self._lines[whole] = _Line(whole, first, self._source, self._spec, self._reading)
        whole.sampling = line.record
        whole.steps = line.steps()
        return whole


@dataclass(slots=True)
class _Branching(Generic[OutputT]):
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


class _Line(Generic[OutputT]):
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
        self._branching: _Branching[OutputT] | None = None
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
        begin = self._whole.tokens
        return self._source.excerpt(self.current, begin, end, self._text, finish_reason)

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
        branching = self._branching = _Branching(at, trials)
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

    def _decide(self, branching: _Branching[OutputT]) -> None:
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
