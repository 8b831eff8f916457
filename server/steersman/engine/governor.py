"""Watching and governing the requests of one rank: the thinking phase, token by token.

Between the logits and the sampler's output stands one kernel a step. It reads how sure the model
is, may replace the drawn token, and moves the strength of a steering vector; all of it on the
device, so the next step already feels it and nothing waits for the host.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steersman.engine.batch import NOBODY, Arrival, Batch, Coefficients
from steersman.engine.beginning import Beginning, beginning
from steersman.engine.places import Places, download, upload
from steersman_kernels import governor as kernel
from steersman_kernels.entropy import entropy, measuring
from steersman_kernels.governed import (
    ANSWER,
    CLOSED_BY,
    INTS,
    KNOWN,
    PHASE,
    SEEN,
    SEGMENT,
    SEGMENTS,
    SEQUENCE,
    SETTLED,
    STATISTICS,
    TRACK,
    State,
    Vocabulary,
)
from steersman_kernels.warm_up import warm_up

Measure = Callable[[Tensor, Tensor], Tensor]
"""Of logits, and of the tokens that were drawn from them: [watched, TRACK] float32."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The watched requests of a batch. They stay the same for many steps.

    Attributes:
        batch: All requests of the batch, by the engine's ids.
        places: The watched ones, each with its place among them.
        rows: [watched] int64, their rows in the batch.
        alone: [watched] int64, their rows in a batch of them alone.
        seats: [watched] int32, their rows in the state.
        measure: Measures the watched ones, which are governed by no one.
        measure_alone: The same, of logits of them alone.
        measured: Whether somebody needs the entropies.
        governed: Whether one of them is more than monitored.
        moved: Whether the steering of one of them is moved.

    """

    batch: Sequence[str]
    places: Mapping[str, int]
    rows: Tensor
    alone: Tensor
    seats: Tensor
    measure: Measure
    measure_alone: Measure
    measured: bool
    governed: bool
    moved: bool


class Observed(NamedTuple):
    """Logits of one step and their statistics, before the sampler changes them.

    Attributes:
        logits: [any, vocabulary], raw.
        rows: [watched] int64, where the watched requests are there.
        statistics: [watched, STATISTICS] float32, NaN if nobody needs them; None if no request is
            governed, so that all can be measured at once when the tokens are drawn.

    """

    logits: Tensor
    rows: Tensor
    statistics: Tensor | None


class Governor:
    """The state of the watched requests of one rank.

    Args:
        capacity: Requests that can be running.
        device: That of the model.
        dtype: That of the model's logits.

    """

    def __init__(self, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._state = State.empty(capacity, device)
        self._places = Places(capacity, device)
        self._vocabulary: Vocabulary | None = None
        self._host_vocabulary: Vocabulary | None = None
        self._governing: dict[str, Mapping[str, Any]] = {}
        # State of preempted requests: on the device, so that nothing waits for it.
        self._parked: dict[str, State] = {}
        self._staged: dict[int, Beginning] = {}
        # Of the staged ones, those that come back.
        self._returning: dict[int, State] = {}
        self._watched: Watched | None = None
        # Of the running step.
        self.moving: Coefficients | None = None
        """`coefficients`, if they move the steering of one of its requests."""
        self._running: Watched | None = None
        self._positions: Tensor | None = None  # of the last input tokens, [watched] int64
        self._observed: Observed | None = None
        self._kept: Tensor | None = None
        self._track: NDArray[np.float32] | None = None
        # The last track where it was written, and on the host.
        self._measured: Tensor | None = None
        self._downloaded: NDArray[np.float32] | None = None

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._governing

    def arm(
        self,
        start: Sequence[int],
        end: Sequence[int],
        implicit: Sequence[int],
        closing: Sequence[int],
        boundary: bytes,
    ) -> None:
        """Learn the model's vocabulary: see `Ring.arm`."""

        def tokens(ids: Sequence[int]) -> Tensor:
            return torch.tensor(list(ids), dtype=torch.int32)

        table = torch.frombuffer(bytearray(boundary), dtype=torch.bool)
        host = self._host_vocabulary = Vocabulary(
            tokens(start), tokens(end), tokens(implicit), tokens(closing), table
        )
        self._vocabulary = Vocabulary(
            **{each.name: getattr(host, each.name).to(self._device) for each in fields(Vocabulary)}
        )
        _warm_up(self._vocabulary, self._dtype, len(self._state.ints))

    def arrive(self, arrival: Arrival) -> None:
        """Take a request in, after the tokens that it has; one that was preempted comes back."""
        assert self._host_vocabulary is not None
        begun = beginning(arrival, self._host_vocabulary)
        place = self._places.give(arrival.request_id)
        self._watched = None
        self._governing[arrival.request_id] = arrival.control["governing"]
        self._staged[place] = begun
        if parked := self._parked.pop(arrival.request_id, None):
            self._returning[place] = parked

    def preempt(self, request_id: str) -> None:
        """Keep a request's state for its return; its place is free."""
        if request_id in self._places:
            self._write()
            self._watched = None
            place = self._places.take_back(request_id)
            self._parked[request_id] = self._row(place)

    def finish(self, request_id: str) -> None:
        """Forget a request."""
        if self._governing.pop(request_id, None) is None:
            return
        self._watched = None
        self._parked.pop(request_id, None)
        if request_id in self._places:
            place = self._places.take_back(request_id)
            self._staged.pop(place, None)
            self._returning.pop(place, None)

    def settle(self, request_id: str) -> None:
        """Let a request's thinking close at the next end of a line or a sentence."""
        if request_id in self._places:
            self._write()
            self._state.ints[self._places[request_id], SETTLED] = 1
        elif parked := self._parked.get(request_id):
            parked.ints[SETTLED] = 1

    def begin(self, batch: Batch) -> None:
        """Find the watched requests of a step."""
        self.rest()
        if not self._governing:
            return
        self._write()
        watched = self._watched
        if watched is None or watched.batch != batch.request_ids:
            watched = self._watched = self._find(list(batch.request_ids))
        if watched.places:
            self._running = watched
        if watched.moved:
            self.moving = self.coefficients
        if watched.governed:
            self._positions = batch.positions[batch.query_start[watched.rows + 1].long() - 1]

    def _find(self, batch: list[str]) -> Watched:
        rows = [index for index, id_ in enumerate(batch) if id_ in self._places]
        request_ids = [batch[index] for index in rows]
        asked = [self._governing[id_] for id_ in request_ids]
        on_device = upload(torch.tensor(rows, dtype=torch.int64), self._device)
        alone = torch.arange(len(rows), device=self._device)
        return Watched(
            batch,
            {id_: place for place, id_ in enumerate(request_ids)},
            rows=on_device,
            alone=alone,
            seats=self._places.of(request_ids),
            measure=measuring(on_device, on_device),
            measure_alone=measuring(alone, on_device),
            measured=any(governing["measured"] for governing in asked),
            governed=any(governing["thinking"] is not None for governing in asked),
            moved=any(_law(governing) is not None for governing in asked),
        )

    def rest(self) -> None:
        """Watch nothing in the next step."""
        self._running = self._positions = self._observed = self._track = self.moving = None

    def coefficients(self, coef: Tensor, batch: Batch) -> None:
        """Write the factor of each token's steering: [tokens] float32."""
        seats = self._places.of(batch.request_ids)
        kernel.coefficients(coef, self._state, seats, batch.query_start, batch.positions)

    def observe(self, logits: Tensor, *, keep: bool) -> None:
        """Look at the logits of a step.

        Args:
            logits: [requests, vocabulary], raw.
            keep: Whether to look at copies, since the sampler changes these.

        """
        running = self._running
        if running is None:
            return
        rows = running.rows
        if keep and running.measured:
            logits, rows = self._copy(logits, rows), running.alone
        statistics = None
        if running.measured and running.governed:  # before `forbid`
            statistics = entropy(logits, rows)
        elif running.governed:
            statistics = torch.full((len(rows), STATISTICS), torch.nan, device=self._device)
        self._observed = Observed(logits, rows, statistics)

    def _copy(self, logits: Tensor, rows: Tensor) -> Tensor:
        if self._kept is None:
            # Made once: fresh memory of this size costs more than what is read from it.
            self._kept = logits.new_empty(len(self._state.ints), logits.shape[1])
        return torch.index_select(logits, 0, rows, out=self._kept[: len(rows)])

    def forbid(self, logits: Tensor) -> None:
        """Let no response end in which an answer is still due: [requests, vocabulary], in place."""
        running = self._running
        if running is not None and running.governed:
            kernel.forbid_stops(logits, self._state, running.seats, running.rows)

    def govern(self, sampled: Tensor) -> None:
        """Decide about the drawn tokens: [requests] int64 or int32, changed in place."""
        running, observed = self._running, self._observed
        if running is None or observed is None:
            return
        if observed.statistics is None:
            whole = observed.rows is running.rows
            measure = running.measure if whole else running.measure_alone
            track = measure(observed.logits, sampled)
        else:
            assert self._vocabulary is not None
            assert self._positions is not None
            track = torch.empty(len(running.rows), TRACK, device=self._device)
            kernel.govern(
                self._state,
                self._vocabulary,
                seats=running.seats,
                positions=self._positions,
                rows=running.rows,
                sampled=sampled,
                logits=observed.logits,
                logit_rows=observed.rows,
                statistics=observed.statistics,
                track=track,
            )
        if track is not self._measured:  # on a CPU it is the same one for many steps
            self._measured, self._downloaded = track, download(track)
        self._track = self._downloaded

    def taken(self) -> tuple[Mapping[str, int], NDArray[np.float32] | None]:
        """Track of the step's tokens, once: the requests' rows, [watched, TRACK] float32."""
        running, track = self._running, self._track
        self.rest()
        return (NOBODY, None) if running is None or track is None else (running.places, track)

    def _write(self) -> None:
        """Bring the state on the device up to date."""
        if not self._staged:
            return
        staged, returning = self._staged, self._returning
        self._staged, self._returning = {}, {}
        state, begun = self._state, list(staged.values())
        self._copy_rows(list(staged), state.ints, [one.ints for one in begun])
        self._copy_rows(list(staged), state.floats, [one.floats for one in begun])
        self._copy_rows(list(staged), state.nudge, [one.nudge for one in begun])
        self._copy_rows(list(staged), state.stops, [one.stops for one in begun])
        after = {place: one.history for place, one in staged.items() if one.history is not None}
        if after:
            histories = list(after.values())
            self._copy_rows(list(after), state.recent, [one.recent for one in histories])
            self._copy_rows(list(after), state.runs, [one.runs for one in histories])
            self._copy_rows(list(after), state.window, [one.window for one in histories])
        for place, parked in returning.items():
            self._return(place, parked, staged[place])

    def _copy_rows(
        self, places: list[int], table: Tensor, rows: Sequence[NDArray[np.generic]]
    ) -> None:
        on_device = upload(torch.tensor(places), self._device)
        table.index_copy_(0, on_device, upload(torch.from_numpy(np.stack(rows)), self._device))

    def _row(self, place: int) -> State:
        rows = {each.name: getattr(self._state, each.name)[place] for each in fields(State)}
        return State(**{name: row.clone() for name, row in rows.items()})

    def _return(self, place: int, parked: State, begun: Beginning) -> None:
        """Give a request that comes back the state it had.

        The engine can have dropped its last token: then what follows from the tokens is as these
        leave it, and what was measured stays. Neither is known on the host, so both are on the
        device, and the number of tokens seen tells.
        """
        state = self._state
        whole = parked.ints[SEEN] == state.ints[place, SEEN]
        columns = [SEGMENT, SEGMENTS, SETTLED]
        if begun.ints[PHASE] == ANSWER or begun.ints[SEQUENCE]:
            columns.append(CLOSED_BY)
        kept = torch.zeros(INTS, dtype=torch.bool)
        kept[columns] = True
        stays = whole | upload(kept, self._device)
        stays[KNOWN] = False
        state.ints[place] = torch.where(stays, parked.ints, state.ints[place])
        if begun.history is not None:
            state.recent[place] = torch.where(whole, parked.recent, state.recent[place])
            state.runs[place] = torch.where(whole, parked.runs, state.runs[place])
        for name in ("floats", "window", "ends", "strengths"):
            getattr(state, name)[place] = getattr(parked, name)


def _law(governing: Mapping[str, Any]) -> Mapping[str, Any] | None:
    thinking = governing["thinking"]
    law: Mapping[str, Any] | None = thinking["law"] if thinking is not None else None
    return law


def _warm_up(vocabulary: Vocabulary, dtype: torch.dtype, most: int) -> None:
    """Compile what measures and governs batches of up to `most` requests, so that none waits."""
    device = vocabulary.boundary.device
    if device.type != "cpu":
        warm_up(vocabulary, dtype, most)
    state, coef = State.empty(1, device), torch.empty(1, device=device)
    logits = torch.zeros(1, len(vocabulary.boundary), dtype=dtype, device=device)
    row, track = torch.zeros(1, dtype=torch.int64, device=device), coef.new_empty(1, TRACK)
    measuring(row, row)(logits, row)
    kernel.forbid_stops(logits, state, row.int(), row)
    kernel.coefficients(coef, state, row.int(), torch.arange(2, device=device).int(), row)
    kernel.govern(
        state,
        vocabulary,
        seats=row.int(),
        positions=row,
        rows=row,
        sampled=row,
        logits=logits,
        logit_rows=row,
        statistics=entropy(logits, row),
        track=track,
    )
