"""Watching and governing the requests of one rank: the thinking phase, token by token.

Between the logits and the sampler's output stands one kernel a step. It reads how sure the model
is, may replace the drawn token, and moves the strength of a steering vector; all of it on the
device, so the next step already feels it and nothing waits for the host.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steersman.engine.batch import NOBODY, Arrival, Batch, Coefficients
from steersman.engine.beginning import Begun, beginning
from steersman.engine.slots import Slots, download, upload
from steersman.engine.watched import Watched, watched_of
from steersman_kernels import layout as at
from steersman_kernels.entropy import entropy
from steersman_kernels.governor import State, Step, govern
from steersman_kernels.processed import confidence, measure_greedy, measure_processed
from steersman_kernels.stops import forbid_stops
from steersman_kernels.strength import coefficients
from steersman_kernels.vocabulary import Vocabulary
from steersman_kernels.warm_up import warm_up

if TYPE_CHECKING:
    from steersman.wire import GoverningMessage


class Observed(NamedTuple):
    """Logits of one step and their statistics, before the sampler changes them.

    Attributes:
        logits: [any, vocabulary], raw.
        rows: [watched] int64, where the watched requests are there.
        statistics: [watched, STATISTICS] float32, NaN if nobody needs them; None if no request is
            governed, so that all can be measured at once when the tokens are drawn.
        confidence: [confident] float32; None if nobody asks.

    """

    logits: Tensor
    rows: Tensor
    statistics: Tensor | None
    confidence: Tensor | None


class Governor:
    """The state of the watched requests of one rank.

    Args:
        capacity: Requests that can be running.
        device: The model's.
        dtype: Number type of the model's logits.

    """

    def __init__(self, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._state = State.empty(capacity, device)
        self._slots = Slots(capacity, device)
        self._vocabulary: Vocabulary | None = None
        self._host_vocabulary: Vocabulary | None = None
        self._governing: dict[str, GoverningMessage] = {}
        self._greedy: set[str] = set()
        # State of preempted requests: on the device, so that nothing waits for it.
        self._parked: dict[str, State] = {}
        self._staged: dict[int, Begun] = {}
        # Of the staged ones, those that come back.
        self._returning: dict[int, State] = {}
        self._watched: Watched | None = None
        # Of the running step.
        self.moving: Coefficients | None = None
        """`coefficients`, if they move the steering of one of its requests."""
        self._running: Watched | None = None
        self._positions: Tensor | None = None  # of the last input tokens, [watched] int64
        self._observed: Observed | None = None
        self._processed: Tensor | None = None  # logits, [requests, vocabulary]
        self._kept: Tensor | None = None
        self._track: NDArray[np.float32] | None = None
        # The last track where it was written, and on the host.
        self._measured: Tensor | None = None
        self._downloaded: NDArray[np.float32] | None = None

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._governing

    def arm(self, vocabulary: Vocabulary) -> None:
        """Learn the model's vocabulary, on the host."""
        self._host_vocabulary = vocabulary
        self._vocabulary = vocabulary.to(self._device)
        warm_up(self._vocabulary, self._dtype, len(self._state.ints))

    def arrive(self, arrival: Arrival) -> None:
        """Take a request in, after the tokens that it has; one that was preempted comes back."""
        assert self._host_vocabulary is not None
        governing = arrival.message.governing
        assert governing is not None
        begun = beginning(arrival, self._host_vocabulary)
        slot = self._slots.give(arrival.request_id)
        self._watched = None
        self._governing[arrival.request_id] = governing
        if arrival.greedy:
            self._greedy.add(arrival.request_id)
        self._staged[slot] = begun
        if parked := self._parked.pop(arrival.request_id, None):
            self._returning[slot] = parked

    def preempt(self, request_id: str) -> None:
        """Keep a request's state for its return; its slot is free."""
        if request_id in self._slots:
            self._write()
            self._watched = None
            slot = self._slots.take_back(request_id)
            self._parked[request_id] = State(*(tensor[slot].clone() for tensor in self._state))

    def finish(self, request_id: str) -> None:
        """Forget a request."""
        if self._governing.pop(request_id, None) is None:
            return
        self._watched = None
        self._greedy.discard(request_id)
        self._parked.pop(request_id, None)
        if request_id in self._slots:
            slot = self._slots.take_back(request_id)
            self._staged.pop(slot, None)
            self._returning.pop(slot, None)

    def settle(self, request_id: str) -> None:
        """Let a request's thinking close at the next end of a line or a sentence."""
        if request_id in self._slots:
            self._write()
            self._state.ints[self._slots[request_id], at.SETTLED] = 1
        elif parked := self._parked.get(request_id):
            parked.ints[at.SETTLED] = 1

    def begin(self, batch: Batch) -> None:
        """Find the watched requests of a step."""
        self.rest()
        if not self._governing:
            return
        self._write()
        watched = self._watched
        if watched is None or watched.batch != batch.request_ids:
            watched = self._watched = watched_of(
                list(batch.request_ids), self._governing, self._greedy, self._slots, self._device
            )
        if watched.track_rows:
            self._running = watched
        if watched.moved:
            self.moving = self.coefficients
        if watched.governed:
            self._positions = batch.positions[batch.query_start[watched.rows + 1].long() - 1]

    def rest(self) -> None:
        """Watch nothing in the next step."""
        self._running = self._positions = self._observed = self._track = self.moving = None
        self._processed = None

    def coefficients(self, coef: Tensor, batch: Batch) -> None:
        """Write the factor of each token's steering: [tokens] float32."""
        slots = self._slots.of(batch.request_ids)
        coefficients(coef, self._state, slots, batch.query_start, batch.positions)

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
        statistics = certain = None
        if running.measured and running.governed:  # before `forbid`
            statistics = entropy(logits, rows)
        elif running.governed:
            statistics = torch.full((len(rows), at.STATISTICS), torch.nan, device=self._device)
        if running.confident is not None:  # so there are statistics
            assert statistics is not None
            alone = running.confident.alone
            certain = confidence(logits, rows[alone], statistics[alone, at.LSE])
        self._observed = Observed(logits, rows, statistics, certain)

    @property
    def processing(self) -> bool:
        """True if the logits that the step's tokens are drawn from are needed."""
        return self._running is not None and self._running.processed is not None

    def process(self, logits: Tensor) -> None:
        """Take the logits that tokens are drawn from: [requests, vocabulary], as they are drawn
        from, not to be changed before `govern`."""
        self._processed = logits

    def _copy(self, logits: Tensor, rows: Tensor) -> Tensor:
        if self._kept is None:
            # Made once: fresh memory of this size costs more than what is read from it.
            self._kept = logits.new_empty(len(self._state.ints), logits.shape[1])
        return torch.index_select(logits, 0, rows, out=self._kept[: len(rows)])

    def forbid(self, logits: Tensor) -> None:
        """Let no response end in which an answer is still due: [requests, vocabulary], in place."""
        running = self._running
        if running is not None and running.governed:
            forbid_stops(logits, self._state, running.slots, running.rows)

    def govern(self, sampled: Tensor) -> None:
        """Decide about the drawn tokens: [requests] int64 or int32, changed in place."""
        running, observed = self._running, self._observed
        if running is None or observed is None:
            return
        if not running.measured and not running.governed:
            track = _unmeasured(len(running.rows), self._device)
        elif observed.statistics is None:
            whole = observed.rows is running.rows
            measure = running.measure if whole else running.measure_alone
            track = measure(observed.logits, sampled)
        else:
            assert self._vocabulary is not None
            assert self._positions is not None
            track = torch.empty(len(running.rows), at.TRACK, device=self._device)
            step = Step(
                slots=running.slots,
                positions=self._positions,
                rows=running.rows,
                sampled=sampled,
                logits=observed.logits,
                logit_rows=observed.rows,
                statistics=observed.statistics,
                track=track,
            )
            govern(self._state, self._vocabulary, step)
        self._complete(running, observed, sampled, track)
        if track is not self._measured:  # on a CPU it is the same one for many steps
            self._measured, self._downloaded = track, download(track)
        self._track = self._downloaded

    def _complete(
        self, running: Watched, observed: Observed, sampled: Tensor, track: Tensor
    ) -> None:
        """Write what only some of the requests ask for into the track of final tokens."""
        if running.processed is not None:
            assert self._processed is not None
            rows, alone = running.processed
            measure_processed(self._processed, rows, sampled, track, alone)
        if running.greedy is not None:
            measure_greedy(track, running.greedy.alone)
        if running.confident is not None:
            assert observed.confidence is not None
            track[running.confident.alone, at.T_CONFIDENCE] = observed.confidence

    def taken(self) -> tuple[Mapping[str, int], NDArray[np.float32] | None]:
        """Track of the step's tokens, once: the requests' rows, [watched, TRACK] float32."""
        running, track = self._running, self._track
        self.rest()
        return (NOBODY, None) if running is None or track is None else (running.track_rows, track)

    def _write(self) -> None:
        """Bring the state on the device up to date."""
        if not self._staged:
            return
        staged, returning = self._staged, self._returning
        self._staged, self._returning = {}, {}
        for name, table in zip(State._fields, self._state, strict=True):
            begun = {slot: rows[name] for slot, rows in staged.items() if name in rows}
            if begun:
                slots = upload(torch.tensor(list(begun)), self._device)
                rows = torch.from_numpy(np.stack(list(begun.values())))
                table.index_copy_(0, slots, upload(rows, self._device))
        for slot, parked in returning.items():
            self._return(slot, parked, staged[slot])

    def _return(self, slot: int, parked: State, begun: Begun) -> None:
        """Give a request that comes back the state it had.

        The engine can have dropped its last token: then what follows from the tokens is as these
        leave it, and what was measured stays. Neither is known on the host, so both are on the
        device, and the number of tokens seen tells.
        """
        state = self._state
        whole = parked.ints[at.SEEN] == state.ints[slot, at.SEEN]
        columns = [at.SEGMENT, at.SEGMENTS, at.SETTLED]
        if begun["ints"][at.PHASE] == at.ANSWER or begun["ints"][at.SEQUENCE]:
            columns.append(at.CLOSED_BY)
        kept = torch.zeros(at.INTS, dtype=torch.bool)
        kept[columns] = True
        stays = whole | upload(kept, self._device)
        stays[at.KNOWN] = False
        state.ints[slot] = torch.where(stays, parked.ints, state.ints[slot])
        if "recent" in begun:
            state.recent[slot] = torch.where(whole, parked.recent, state.recent[slot])
            state.runs[slot] = torch.where(whole, parked.runs, state.runs[slot])
        for name in ("floats", "window", "ends", "strengths"):
            getattr(state, name)[slot] = getattr(parked, name)


def _unmeasured(watched: int, device: torch.device) -> Tensor:
    """The track of drawn tokens of which nothing is measured yet: [watched, TRACK] float32."""
    track = torch.zeros(watched, at.TRACK, device=device)
    track[:, : at.T_STRENGTH] = torch.nan
    return track
