"""A governed request's state as it begins: its parameters, in the columns of the governor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steersman.engine.batch import Arrival
from steersman_kernels import governed as columns
from steersman_kernels.governor import steepness

_LAWS = {"proportional": columns.PROPORTIONAL, "confidence": columns.CONFIDENCE_LAW}


@dataclass(frozen=True, slots=True)
class Beginning:
    """A row of each of the governor's tables. Cells of an array take a tenth of those of a tensor.

    Attributes:
        ints: [INTS] int32.
        floats: [FLOATS] float32.
        nudge: [NUDGE_TOKENS] int32.

    """

    ints: NDArray[np.int32]
    floats: NDArray[np.float32]
    nudge: NDArray[np.int32]


def beginning(arrival: Arrival, closing: int) -> Beginning:
    """The state of a request that has drawn nothing yet.

    Args:
        arrival: The request; `control["governing"]` is what `Carrier` made of its plan.
        closing: Tokens of the sequence that closes the thinking phase.

    Raises:
        ArithmeticError: A number is beyond the table's int32 or float32.

    """
    with np.errstate(over="raise", invalid="raise"):
        return _beginning(arrival, closing)


def _beginning(arrival: Arrival, closing: int) -> Beginning:
    governing = arrival.control["governing"]
    ints = np.zeros(columns.INTS, np.int32)
    floats = np.zeros(columns.FLOATS, np.float32)
    nudge = np.zeros(columns.NUDGE_TOKENS, np.int32)
    ints[columns.KNOWN] = len(arrival.token_ids)
    ints[columns.BUDGET] = ints[columns.LATEST] = columns.NEVER
    ints[columns.PHASE] = columns.THINKING if arrival.control["opened"] else columns.BEFORE
    floats[columns.CONFIDENCE] = np.nan
    if (thinking := governing["thinking"]) is not None:
        _limit(ints, floats, thinking)
        ints[columns.LATEST] = governing["end"] - closing - thinking["min_answer"]
        nudge[: len(thinking["nudge"])] = thinking["nudge"]
        if (law := thinking["law"]) is not None:
            _balance(ints, floats, law)
    return Beginning(ints, floats, nudge)


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
