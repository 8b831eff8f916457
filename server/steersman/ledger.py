"""The books of one HTTP request: what ran, what it cost, and the receipt made of it."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from steersman.steering.plan import PlannedTerm, Steering
from steersman.thinking import report
from steersman.thinking.governing import Governing
from steersman.trajectory.line import Line
from steersman.trajectory.phases import Markers
from steersman_client import (
    Applied,
    AppliedEdit,
    AppliedSearch,
    AppliedSteer,
    AppliedThinking,
    Compute,
    Entropy,
    Leader,
    Monitor,
    Receipt,
)
from steersman_kernels.layout import CLASSES

if TYPE_CHECKING:
    from steersman.search.first_finish import Outcome


class Run:
    """One call of the engine within the request: one prompt, or one turn of a tool loop.

    Args:
        branches: Its lines.
        opened: Whether the prompt leaves the thinking phase open.

    """

    def __init__(self, branches: int, opened: bool = False) -> None:
        self.lines: list[Line[Any]] = [Line(branch) for branch in range(branches)]
        self.opened = opened
        self.stops: frozenset[int] = frozenset()
        """Tokens each of which ends a response."""
        self.outcome: Outcome[Any] | None = None
        self.branch_max_tokens: int | None = None
        self._leader: Line[Any] | None = None
        self._shown = 0

    @property
    def probes(self) -> list[Line[Any]]:
        """The forks of its lines that were asked for their answers."""
        return [probe for line in self.lines for probe in line.probes]

    @property
    def sampled_tokens(self) -> int:
        return sum(line.tokens for line in (*self.lines, *self.probes))

    @property
    def returned(self) -> Sequence[Line[Any]]:
        """The lines of the returned choices."""
        return self.lines if self.outcome is None else self.outcome.winners

    @property
    def returned_tokens(self) -> int:
        return sum(line.tokens for line in self.returned)

    def leader(self) -> Leader | None:
        """The leading sibling, with its text since it was last asked for; None if there is none.

        The sibling that has got furthest takes the lead and keeps it as long as it runs.
        """
        if self._leader is None or self._leader.finish_reason is not None:
            running = [line for line in self.lines if line.finish_reason is None]
            self._leader = max(running, key=lambda line: line.tokens, default=None)
            self._shown = 0
        if self._leader is None:
            return None
        text = self._leader.text[self._shown :]
        self._shown += len(text)
        return Leader(branch=self._leader.branch, tokens=self._leader.tokens, text=text)


class Ledger:
    """All runs of one HTTP request, and the clock."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.runs: list[Run] = []
        self._clock = clock
        self._started = clock()

    def open(self, branches: int, opened: bool = False) -> Run:
        """Start the books of an engine call with this many lines.

        Args:
            branches: Its lines.
            opened: Whether its prompt leaves the thinking phase open.

        """
        run = Run(branches, opened)
        self.runs.append(run)
        return run

    @property
    def lines(self) -> list[Line[Any]]:
        return [line for run in self.runs for line in run.lines]

    @property
    def sampled_tokens(self) -> int:
        return sum(run.sampled_tokens for run in self.runs)

    @property
    def returned_tokens(self) -> int:
        return sum(run.returned_tokens for run in self.runs)

    @property
    def probes(self) -> list[Line[Any]]:
        return [probe for run in self.runs for probe in run.probes]

    @property
    def seconds(self) -> float:
        """Seconds since the request was planned."""
        return self._clock() - self._started

    @property
    def running(self) -> int:
        return sum(line.finish_reason is None for line in self.lines)

    @property
    def finished(self) -> int:
        return sum(line.finished for line in self.lines)

    @property
    def cancelled(self) -> int:
        return sum(line.aborted for line in self.lines)

    def compute(self) -> Compute:
        # In one go: every request asks for it, and mostly it has but one line.
        sampled = cancelled = prefill = 0
        for run in self.runs:
            for line in (*run.lines, *run.probes):
                sampled += line.tokens
                prefill += line.prefill_tokens
            for line in run.lines:
                cancelled += line.tokens if line.aborted else 0
        return Compute(
            sampled_tokens=sampled,
            returned_tokens=self.returned_tokens,
            cancelled_tokens=cancelled,
            prefill_tokens=prefill,
            wall_ms=round(self.seconds * 1e3, 3),
        )

    def receipt(
        self,
        *,
        profile: str | None,
        search: str | None,
        steering: Steering | None = None,
        edits: Sequence[AppliedEdit] = (),
        governing: Governing | None = None,
        monitor: Monitor | None = None,
        markers: Markers | None = None,
    ) -> Receipt:
        """The receipt, as of now.

        Args:
            profile: Name of the profile that applied.
            search: Name of the search method; None if there was none.
            steering: The steering and the edit that were asked for; None if there were none.
            edits: What the model's weights have.
            governing: What was asked of the governor; None if nothing was.
            monitor: What was asked of the monitor; None if nothing was.
            markers: The model's thinking markers; None for a model without a thinking phase.

        """
        balance = steering.balance if steering else None
        thinking = self.thinking(governing, markers, balance) if governing and markers else ()
        entropies = self._entropies(monitor, markers) if monitor else ()
        limits = self._limits()
        applied = Applied(
            profile=profile,
            max_tokens=limits[0] if limits else None,
            max_tokens_by_choice=limits if len(set(limits)) > 1 else None,
            seeds=self._seeds(),
            steer=self._steer(steering) if steering else (),
            thinkedit=steering.edit.applied(self.edited) if steering and steering.edit else None,
            edits=tuple(edits),
            thinking=thinking[0] if thinking else None,
            thinking_by_choice=thinking if len(thinking) > 1 else None,
            search=self._search(search) if search else None,
        )
        return Receipt(
            applied=applied,
            compute=self.compute(),
            entropy=entropies[0] if entropies else None,
            entropy_by_choice=entropies if len(entropies) > 1 else None,
        )

    def thinking(
        self, governing: Governing, markers: Markers, balance: PlannedTerm | None
    ) -> tuple[AppliedThinking, ...]:
        """Outcome of the thinking phase of each returned line.

        Args:
            governing: What was asked of the governor.
            markers: The model's thinking markers.
            balance: The vector whose strength it moved; None without one.

        """
        return tuple(
            report.applied(
                line.track,
                markers,
                governing,
                opened=run.opened,
                stops=run.stops,
                balance=balance,
                steered=line.steered,
                probes=len(line.probes),
            )
            for run in self.runs
            for line in run.returned
            if line.track is not None
        )

    def _limits(self) -> tuple[int, ...]:
        """Token limits of the returned lines."""
        return tuple(
            run.branch_max_tokens
            for run in self.runs
            for _ in run.returned
            if run.branch_max_tokens is not None
        )

    def _seeds(self) -> tuple[int, ...] | None:
        """Seeds of the returned lines; None if the request names none."""
        seeds = [line.seed for run in self.runs for line in run.returned]
        return tuple(seed for seed in seeds if seed is not None) or None

    def _entropies(self, monitor: Monitor, markers: Markers | None) -> tuple[Entropy, ...]:
        return tuple(
            report.entropy(line.track, markers, opened=run.opened, tokens=monitor.tokens)
            for run in self.runs
            for line in run.returned
            if line.track is not None
        )

    @property
    def steered(self) -> dict[tuple[str, bool], int]:
        """Steered tokens of the returned lines, by class of token."""
        lines = [line for run in self.runs for line in run.returned if line.steered]
        return {
            kind: sum(line.steered[index] for line in lines) for index, kind in enumerate(CLASSES)
        }

    @property
    def edited(self) -> int:
        """Tokens of the returned lines, and their prompts, that went through the request's edit."""
        lines = [line for run in self.runs for line in run.returned if line.steered]
        return sum(line.steered[len(CLASSES)] for line in lines)

    def _steer(self, steering: Steering) -> tuple[AppliedSteer, ...]:
        counts = self.steered
        return tuple(
            planned.applied(sum(counts[kind] for kind in CLASSES if planned.term.applies(*kind)))
            for planned in steering.terms
        )

    def _search(self, method: str) -> AppliedSearch:
        outcomes = [run.outcome for run in self.runs if run.outcome is not None]
        winners = tuple(line.branch for outcome in outcomes for line in outcome.winners)
        # With several runs the receipt names the weakest way in which one of them was decided.
        decided = {outcome.decided_by for outcome in outcomes}
        decided_by = next((by for by in ("fallback", "vote", "first") if by in decided), None)
        limits = {run.branch_max_tokens for run in self.runs}
        return AppliedSearch(
            method=method,
            launched=len(self.lines),
            finished=self.finished,
            cancelled=self.cancelled,
            winner=winners[0] if winners else None,
            winners=winners,
            decided_by=decided_by,
            votes=outcomes[0].votes if len(outcomes) == 1 else None,
            branch_max_tokens=limits.pop() if len(limits) == 1 else None,
        )
