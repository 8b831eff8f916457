"""A governed request's state as it begins: its parameters, in the columns of the governor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steersman.engine.batch import Arrival
from steersman_kernels import governed as columns
from steersman_kernels.governed import State, Vocabulary
from steersman_kernels.governor import replay, steepness

_LAWS = {"proportional": columns.PROPORTIONAL, "confidence": columns.CONFIDENCE_LAW}


@dataclass(frozen=True, slots=True)
class History:
    """The rings of a request that begins after generated tokens.

    Attributes:
        recent: [HISTORY] int32.
        runs: [HISTORY] int32.
        window: [WINDOW_TOKENS] float32: NaN, as the entropies of these tokens are not known.

    """

    recent: NDArray[np.int32]
    runs: NDArray[np.int32]
    window: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Beginning:
    """A row of each of the governor's tables. Cells of an array take a tenth of those of a tensor.

    Attributes:
        ints: [INTS] int32.
        floats: [FLOATS] float32.
        nudge: [NUDGE_TOKENS] int32.
        stops: [STOP_TOKENS] int32.
        history: Of a request that begins after generated tokens; None for any other.

    """

    ints: NDArray[np.int32]
    floats: NDArray[np.float32]
    nudge: NDArray[np.int32]
    stops: NDArray[np.int32]
    history: History | None = None


def beginning(arrival: Arrival, vocabulary: Vocabulary) -> Beginning:
    """The state of a request: as its prompt leaves it, and any generated tokens after that.

    Args:
        arrival: The request; `control["governing"]` is what `Carrier` made of its plan.
        vocabulary: The model's, on the host.

    Raises:
        ArithmeticError: A number is beyond the table's int32 or float32.

    """
    origin = arrival.control["origin"]
    with np.errstate(over="raise", invalid="raise"):
        begun = _untouched(arrival, len(vocabulary.closing))
    generated = arrival.token_ids[origin:]
    return _after(begun, generated, origin, vocabulary) if generated else begun


def _after(
    begun: Beginning, generated: Sequence[int], position: int, vocabulary: Vocabulary
) -> Beginning:
    history = History(
        np.zeros(columns.HISTORY, np.int32),
        np.zeros(columns.HISTORY, np.int32),
        np.full(columns.WINDOW_TOKENS, np.nan, np.float32),
    )
    table = State(
        **{
            name: torch.from_numpy(values)[None]
            for name, values in {
                "ints": begun.ints,
                "floats": begun.floats,
                "recent": history.recent,
                "runs": history.runs,
                "window": history.window,
                "nudge": begun.nudge,
                "stops": begun.stops,
                "ends": np.zeros(0, np.int32),
                "strengths": np.zeros(0, np.float32),
            }.items()
        }
    )
    replay(table, vocabulary, position, torch.tensor(generated, dtype=torch.int32))
    return replace(begun, history=history)


def _untouched(arrival: Arrival, closing: int) -> Beginning:
    """The state of a request that has drawn nothing yet."""
    governing = arrival.control["governing"]
    ints = np.zeros(columns.INTS, np.int32)
    floats = np.zeros(columns.FLOATS, np.float32)
    nudge = np.zeros(columns.NUDGE_TOKENS, np.int32)
    stops = np.zeros(columns.STOP_TOKENS, np.int32)
    ints[columns.KNOWN] = len(arrival.token_ids)
    ints[columns.BUDGET] = ints[columns.LATEST] = columns.NEVER
    ints[columns.PHASE] = columns.THINKING if arrival.control["opened"] else columns.BEFORE
    floats[columns.CONFIDENCE] = np.nan
    if (thinking := governing["thinking"]) is not None:
        _limit(ints, floats, thinking)
        ints[columns.LATEST] = governing["end"] - closing - thinking["min_answer"]
        nudge[: len(thinking["nudge"])] = thinking["nudge"]
        ints[columns.STOPS] = len(governing["stops"])
        stops[: len(governing["stops"])] = governing["stops"]
        if (law := thinking["law"]) is not None:
            _balance(ints, floats, law)
    return Beginning(ints, floats, nudge, stops)


def _limit(
    ints: NDArray[np.int32], floats: NDArray[np.float32], thinking: Mapping[str, Any]
) -> None:
    ints[columns.GOVERNED] = 1
    if thinking["budget"] is not None:
        ints[columns.BUDGET] = thinking["budget"]
    ints[columns.GRACE] = thinking["grace"]
    ints[columns.MINIMUM] = thinking["minimum"]
    ints[columns.NUDGES] = len(thinking["nudge"])
    ints[columns.MIN_ANSWER] = thinking["min_answer"]
    ints[columns.LOOP] = int(thinking["on_loop"])
    ints[columns.WINDOW] = thinking["window"]
    floats[columns.EXIT_BELOW] = thinking["entropy_below"]


def _balance(ints: NDArray[np.int32], floats: NDArray[np.float32], law: Mapping[str, Any]) -> None:
    ints[columns.LAW] = _LAWS[law["kind"]]
    low, high = law["confidence"]
    values = {
        columns.TARGET: law["target"] or 0.0,
        columns.GAIN: law["gain"],
        columns.INTEGRAL_GAIN: law["integral_gain"],
        columns.BASE: law["base"],
        columns.LOW: law["low"],
        columns.HIGH: law["high"],
        columns.CONFIDENCE_LOW: low,
        columns.CONFIDENCE_HIGH: high,
        columns.VARIANCE_LOW: law["variance"][0],
        columns.VARIANCE_HIGH: law["variance"][1],
        columns.STEEPNESS: steepness(low, high),
        columns.STRENGTH: law["base"],
    }
    for column, value in values.items():
        floats[column] = value
