"""A governed request's state as it begins: its parameters, in the columns of the governor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steersman.engine.batch import Arrival
from steersman.wire import Law, RequestMessage, ThinkingMessage
from steersman_kernels import layout as at
from steersman_kernels.governor import State, replay
from steersman_kernels.strength import steepness
from steersman_kernels.vocabulary import Vocabulary

Begun = Mapping[str, NDArray[Any]]
"""A request's rows of the tables of `State`, by their names: those that it begins with. Cells of an
array take a tenth of those of a tensor."""


def beginning(arrival: Arrival, vocabulary: Vocabulary) -> Begun:
    """The state of a request: as its prompt leaves it, and any generated tokens after that.

    Args:
        arrival: The request; its message has something to govern.
        vocabulary: The model's, on the host.

    Raises:
        ArithmeticError: A number is beyond the table's int32 or float32.

    """
    message, known = arrival.message, len(arrival.token_ids)
    origin = message.origin
    with np.errstate(over="raise", invalid="raise"):
        begun = _untouched(message, known, len(vocabulary.closing))
    generated = arrival.token_ids[origin:]
    return _after(begun, generated, origin, vocabulary) if generated else begun


def _after(begun: Begun, generated: Sequence[int], position: int, vocabulary: Vocabulary) -> Begun:
    """The same after generated tokens: with rings, whose entropies are not known."""
    window = np.full(at.WINDOW_TOKENS, np.nan, np.float32)
    recent, runs = np.zeros((2, at.HISTORY), np.int32)
    rows = {**begun, "recent": recent, "runs": runs, "window": window}
    tables = {name: torch.from_numpy(row)[None] for name, row in rows.items()}
    state = State.empty(1)._replace(**tables)
    replay(state, vocabulary, position, torch.tensor(generated, dtype=torch.int32))
    return rows


def _untouched(message: RequestMessage, known: int, closing: int) -> Begun:
    """The state of a request that has drawn nothing yet; of its tokens so many are known."""
    governing = message.governing
    assert governing is not None
    ints = np.zeros(at.INTS, np.int32)
    floats = np.zeros(at.FLOATS, np.float32)
    nudge = np.zeros(at.NUDGE_TOKENS, np.int32)
    stops = np.zeros(at.STOP_TOKENS, np.int32)
    ints[at.KNOWN] = known
    ints[at.BUDGET] = ints[at.LATEST] = at.NEVER
    ints[at.PHASE] = at.THINKING if message.opened else at.BEFORE
    floats[at.CONFIDENCE] = np.nan
    if (thinking := governing.thinking) is not None:
        _limit(ints, floats, thinking)
        ints[at.LATEST] = governing.end - closing - thinking.min_answer
        nudge[: len(thinking.nudge)] = thinking.nudge
        ints[at.STOPS] = len(governing.stops)
        stops[: len(governing.stops)] = governing.stops
        if thinking.law is not None:
            _balance(ints, floats, thinking.law)
    return {"ints": ints, "floats": floats, "nudge": nudge, "stops": stops}


def _limit(ints: NDArray[np.int32], floats: NDArray[np.float32], thinking: ThinkingMessage) -> None:
    ints[at.GOVERNED] = 1
    if thinking.budget is not None:
        ints[at.BUDGET] = thinking.budget
    ints[at.GRACE] = thinking.grace
    ints[at.MINIMUM] = thinking.minimum
    ints[at.NUDGES] = len(thinking.nudge)
    ints[at.MIN_ANSWER] = thinking.min_answer
    ints[at.LOOP] = int(thinking.on_loop)
    ints[at.WINDOW] = thinking.window
    floats[at.EXIT_BELOW] = thinking.entropy_below


def _balance(ints: NDArray[np.int32], floats: NDArray[np.float32], law: Law) -> None:
    ints[at.LAW] = at.LAWS.index(law.kind)
    low, high = law.confidence
    values = {
        at.TARGET: law.target,
        at.GAIN: law.gain,
        at.INTEGRAL_GAIN: law.integral_gain,
        at.BASE: law.base,
        at.LOW: law.low,
        at.HIGH: law.high,
        at.CONFIDENCE_LOW: low,
        at.CONFIDENCE_HIGH: high,
        at.VARIANCE_LOW: law.variance[0],
        at.VARIANCE_HIGH: law.variance[1],
        at.STEEPNESS: steepness(low, high),
        at.STRENGTH: law.base,
    }
    for column, value in values.items():
        floats[column] = value
