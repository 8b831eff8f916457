"""Watching and governing the requests of one rank: the thinking phase, token by token.

Between the logits and the sampler's output stands one kernel a step. It reads how sure the model
is, may replace the drawn token, and moves the strength of a steering vector; all of it on the
device, so the next step already feels it and nothing waits for the host.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from steersman.engine.batch import Arrival, Batch
from steersman.engine.beginning import Beginning, beginning
from steersman.engine.places import Places, download, upload
from steersman_kernels import governor as kernel
from steersman_kernels.entropy import ENTROPY, LSE, STATISTICS, TOP, entropy
from steersman_kernels.governed import (
    KNOWN,
    T_ENTROPY,
    T_LOGPROB,
    T_TOP,
    TRACK,
    State,
    Vocabulary,
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The tokens that one step draws for watched requests.

    Attributes:
        request_ids: The engine's ids.
        rows: [watched] int64, their rows in the batch.
        seats: [watched] int32, their rows in the state.
        positions: [watched] int64, positions of their last input tokens.
        measured: Whether somebody needs the entropies.
        governed: Whether one of them is more than monitored.

    """

    request_ids: Sequence[str]
    rows: Tensor
    seats: Tensor
    positions: Tensor
    measured: bool
    governed: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """What the logits of one step say, before the sampler changes them.

    Attributes:
        logits: [any, vocabulary], raw.
        rows: [watched] int64, where the watched requests are there.
        statistics: [watched, STATISTICS] float32, NaN if nobody needs them.

    """

    logits: Tensor
    rows: Tensor
    statistics: Tensor


class Governor:
    """The state of the watched requests of one rank.

    Args:
        capacity: Requests that can be running.
        device: That of the model.

    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._device = device
        self._state = State.empty(capacity, device)
        self._places = Places(capacity, device)
        self._vocabulary: Vocabulary | None = None
        self._governing: dict[str, Mapping[str, Any]] = {}
        # State of preempted requests: on the device, so that nothing waits for it.
        self._parked: dict[str, list[Tensor]] = {}
        self._staged: dict[int, Beginning] = {}
        self._drawn: Drawn | None = None
        self._observed: Observed | None = None
        self._track: Tensor | None = None

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._governing

    def arm(
        self,
        start: Sequence[int],
        end: Sequence[int],
        closing: Sequence[int],
        stops: Sequence[int],
        boundary: bytes,
    ) -> None:
        """Learn the model's vocabulary: see `Ring.arm`."""

        def tokens(ids: Sequence[int]) -> Tensor:
            return torch.tensor(list(ids), dtype=torch.int32, device=self._device)

        table = torch.frombuffer(bytearray(boundary), dtype=torch.bool).to(self._device)
        self._vocabulary = Vocabulary(
            tokens(start), tokens(end), tokens(closing), tokens(stops), table
        )

    def arrive(self, arrival: Arrival) -> None:
        """Take a request in, or take it up where it was when it was preempted."""
        governing = arrival.control["governing"]
        again = arrival.request_id in self._governing
        place = self._places.give(arrival.request_id)
        self._governing[arrival.request_id] = governing
        if again:
            for tensor, row in zip(
                self._tensors(), self._parked.pop(arrival.request_id, ()), strict=False
            ):
                tensor[place].copy_(row)
            # What it has drawn already is read anew, and not drawn again.
            self._state.ints[place, KNOWN] = len(arrival.token_ids)
            return
        assert self._vocabulary is not None
        self._staged[place] = beginning(arrival, len(self._vocabulary.closing))

    def preempt(self, request_id: str) -> None:
        """Keep a request's state for its return; its place is free."""
        if request_id in self._places:
            self._write()
            place = self._places.take_back(request_id)
            self._parked[request_id] = [tensor[place].clone() for tensor in self._tensors()]

    def finish(self, request_id: str) -> None:
        """Forget a request."""
        if self._governing.pop(request_id, None) is None:
            return
        self._parked.pop(request_id, None)
        if request_id in self._places:
            self._staged.pop(self._places.take_back(request_id), None)

    def begin(self, batch: Batch) -> None:
        """Find the watched requests of a step."""
        rows = [index for index, id_ in enumerate(batch.request_ids) if id_ in self._places]
        if not rows:
            self.rest()
            return
        self._write()
        request_ids = [batch.request_ids[index] for index in rows]
        index = upload(torch.tensor(rows), self._device)
        self._drawn = Drawn(
            request_ids,
            rows=index,
            seats=self._places.of(request_ids),
            positions=batch.positions[batch.query_start[index + 1].long() - 1],
            measured=any(self._governing[id_]["measured"] for id_ in request_ids),
            governed=any(self._governing[id_]["thinking"] is not None for id_ in request_ids),
        )

    def rest(self) -> None:
        """Watch nothing in the next step."""
        self._drawn = self._observed = self._track = None

    def moves(self, request_ids: Sequence[str]) -> bool:
        """Whether a request of the batch has its steering moved."""
        return any(
            id_ in self._places and _law(self._governing[id_]) is not None for id_ in request_ids
        )

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
        drawn = self._drawn
        if drawn is None:
            return
        rows = drawn.rows
        if not drawn.measured:
            nothing = torch.full((len(rows), STATISTICS), torch.nan, device=self._device)
            self._observed = Observed(logits, rows, nothing)
            return
        if keep:
            logits = logits.index_select(0, rows)
            rows = torch.arange(len(rows), device=self._device)
        self._observed = Observed(logits, rows, entropy(logits, rows))

    def forbid(self, logits: Tensor) -> None:
        """Let no response end in which an answer is still due: [requests, vocabulary], in place."""
        drawn = self._drawn
        if drawn is not None and drawn.governed:
            assert self._vocabulary is not None
            kernel.forbid_stops(logits, self._state, self._vocabulary, drawn.seats, drawn.rows)

    def govern(self, sampled: Tensor) -> None:
        """Decide about the drawn tokens: [requests] int64 or int32, changed in place."""
        if self._drawn is None or self._observed is None:
            return
        drawn, observed = self._drawn, self._observed
        assert self._vocabulary is not None
        track = torch.zeros(len(drawn.rows), TRACK, dtype=torch.float32, device=self._device)
        if not drawn.governed:
            _measure(sampled[drawn.rows], observed, track)
            self._observed, self._track = None, download(track)
            return
        kernel.govern(
            self._state,
            self._vocabulary,
            seats=drawn.seats,
            positions=drawn.positions,
            rows=drawn.rows,
            sampled=sampled,
            logits=observed.logits,
            logit_rows=observed.rows,
            statistics=observed.statistics,
            track=track,
        )
        self._observed = None
        self._track = download(track)

    def taken(self) -> tuple[Sequence[str], Tensor | None]:
        """What the step says of its tokens, once: the engine's ids, [watched, TRACK] float32."""
        drawn, track = self._drawn, self._track
        self.rest()
        return ((), None) if drawn is None or track is None else (drawn.request_ids, track)

    def _write(self) -> None:
        """Bring the state on the device up to date."""
        if not self._staged:
            return
        places = upload(torch.tensor(list(self._staged)), self._device)
        begun = list(self._staged.values())
        self._staged.clear()
        for tensor, rows in (
            (self._state.ints, [one.ints for one in begun]),
            (self._state.floats, [one.floats for one in begun]),
            (self._state.nudge, [one.nudge for one in begun]),
        ):
            tensor.index_copy_(0, places, upload(torch.stack(rows), self._device))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self._state, field.name) for field in fields(State)]


def _law(governing: Mapping[str, Any]) -> Mapping[str, Any] | None:
    thinking = governing["thinking"]
    law: Mapping[str, Any] | None = thinking["law"] if thinking is not None else None
    return law


def _measure(tokens: Tensor, observed: Observed, track: Tensor) -> None:
    """What is said of tokens that nobody governs: [watched, TRACK] float32, in place."""
    track[:, T_ENTROPY] = observed.statistics[:, ENTROPY]
    logits = observed.logits[observed.rows, tokens.long()].float()
    track[:, T_LOGPROB] = logits - observed.statistics[:, LSE]
    track[:, T_TOP] = observed.statistics[:, TOP]
