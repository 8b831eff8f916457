"""Requests of the governor, and steps of a batch of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.governor import State, Step
from steersman_kernels.layout import NEVER
from steersman_kernels.vocabulary import Vocabulary

SIZE = 14
BOUNDARY = (3, 8)
STOPS = (9, 10)
WORDS = (0, 11, 12)
OUTSIDE = (-1, SIZE, 10**6)
CAPACITY = 6

Govern = Callable[..., None]


@dataclass(frozen=True)
class Words:
    """The markers and stops, as lists."""

    start: Sequence[int] = (1,)
    end: Sequence[int] = (2,)
    closing: Sequence[int] = (2,)
    stops: Sequence[int] = STOPS
    implicit: Sequence[int] = ()

    def tensors(self) -> Vocabulary:
        boundary = bytes(int(token in BOUNDARY) for token in range(SIZE))
        return Vocabulary.of(self.start, self.end, self.implicit, self.closing, boundary)


@dataclass(frozen=True)
class Asked:
    """Limits and law that one request asks for."""

    known: int = 0
    budget: int = NEVER
    grace: int = 0
    minimum: int = 0
    latest: int = NEVER
    min_answer: int = 0
    loop: bool = False
    window: int = 0
    exit_below: float = 0.0
    nudge: tuple[int, ...] = ()
    governed: bool = True
    opened: bool = True
    law: int = 0
    target: float = 0.5
    gain: float = 0.0
    integral_gain: float = 0.0
    base: float = 0.6
    bounds: tuple[float, float] = (-0.3117, 0.9391)
    confidence: tuple[float, float] = (0.6137, 0.8911)
    variance: tuple[float, float] = (0.00053, 0.0101)
    steep: float = 9.0

    def take(self, state: State, slot: int, stops: Sequence[int] = STOPS) -> None:
        """Write the request's rows, as the engine does when one arrives."""
        ints = dict.fromkeys(range(at.INTS), 0) | {
            at.KNOWN: self.known,
            at.BUDGET: self.budget,
            at.GRACE: self.grace,
            at.MINIMUM: self.minimum,
            at.LATEST: self.latest,
            at.MIN_ANSWER: self.min_answer,
            at.LOOP: int(self.loop),
            at.WINDOW: self.window,
            at.NUDGES: len(self.nudge),
            at.STOPS: len(stops),
            at.LAW: self.law,
            at.GOVERNED: int(self.governed),
            at.PHASE: at.THINKING if self.opened else at.BEFORE,
        }
        state.ints[slot] = torch.tensor([ints[column] for column in range(at.INTS)])
        floats = [self.exit_below, self.target, self.gain, self.integral_gain, self.base]
        floats += [*self.bounds, *self.confidence, *self.variance, self.steep]
        floats += [0.0, 0.0, math.nan, 0.0, self.base]
        state.floats[slot] = torch.tensor(floats)
        state.nudge[slot] = torch.tensor([*self.nudge, *[5] * (at.NUDGE_TOKENS - len(self.nudge))])
        state.stops[slot] = torch.tensor([*stops, *[0] * (at.STOP_TOKENS - len(stops))])


@dataclass(frozen=True)
class Draw:
    """A token drawn for a request, or with None the step of a prompt that draws none."""

    slot: int
    position: int
    token: int | None
    entropy: float = 0.5
    top: float = 0.75


def copy(state: State) -> State:
    return State(*(tensor.clone() for tensor in state))


def step(
    function: Govern,
    state: State,
    words: Words,
    draws: list[Draw],
    random: Random,
    *,
    token_type: torch.dtype = torch.int32,
    logits_type: torch.dtype = torch.float32,
) -> tuple[list[int], Tensor]:
    """One step of a batch with rows that are not watched; the final tokens, and the track."""
    count, others = len(draws), random.randint(0, 3)
    rows = random.sample(range(count + others), count)
    logit_rows = random.sample(range(count + others + 2), count)
    sampled = torch.full((count + others,), 2, dtype=token_type)
    sampled[rows] = torch.tensor(
        [7 if draw.token is None else draw.token for draw in draws], dtype=token_type
    )
    watched = torch.zeros(count + others, dtype=torch.bool)
    watched[rows] = True
    logits = torch.arange((count + others + 2) * (SIZE + 1)).view(-1, SIZE + 1) / 8 % 5
    logits = logits.to(logits_type)[:, :SIZE]
    track = torch.full((count, at.TRACK), 9.0)
    step = Step(
        slots=torch.tensor([draw.slot for draw in draws], dtype=torch.int32),
        positions=torch.tensor([draw.position - 1 for draw in draws]),
        rows=torch.tensor(rows, dtype=torch.int64),
        sampled=sampled,
        logits=logits,
        logit_rows=torch.tensor(logit_rows, dtype=torch.int64),
        statistics=torch.tensor([[3.5, draw.entropy, draw.top] for draw in draws]).view(-1, 3),
        track=track,
    )
    function(state, words.tensors(), step)
    assert sampled[~watched].eq(2).all()
    final = [int(token) for token in sampled[rows]]
    for draw, token, row, line in zip(draws, final, logit_rows, track, strict=True):
        if draw.token is None:
            assert token == 7
            assert line.isnan().all()
            continue
        assert line[[at.T_ENTROPY, at.T_TOP]].tolist() == [draw.entropy, draw.top]
        unasked = [at.T_PROCESSED_ENTROPY, at.T_PROCESSED_LOGPROB, at.T_CONFIDENCE]
        assert line[unasked].isnan().all()
        if 0 <= token < SIZE:
            assert line[at.T_LOGPROB] == logits[row, token].float() - 3.5
        else:
            assert line[at.T_LOGPROB].isnan()
        assert line[at.T_STRENGTH] == state.floats[draw.slot, at.STRENGTH]
        assert line[at.T_CLOSED_BY] == state.ints[draw.slot, at.CLOSED_BY]
    return final, track


def table() -> State:
    """A table whose rings are full of what an earlier request left."""
    state = State.empty(CAPACITY)
    for name, rows in zip(State._fields, state, strict=True):
        rows.fill_(500 if name == "runs" else -1e30 if name == "window" else 2)
    return state
