"""`forbid_stops` on a CPU."""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.governor import State
from steersman_kernels.loops.compiled import njit

Ints = NDArray[np.int32]


@njit()
def _short(ints: Ints) -> bool:
    """True if the answer may not end yet."""
    answering = ints[at.GOVERNED] != 0 and ints[at.PHASE] == at.ANSWER
    return bool(answering and ints[at.ANSWERED] < ints[at.MIN_ANSWER])


@njit()
def _all_short(ints: Ints, slots: Ints) -> NDArray[np.int64]:
    found = np.empty(len(slots), np.int64)
    count = 0
    for i in range(len(slots)):
        if _short(ints[slots[i]]):
            found[count] = i
            count += 1
    return found[:count]


def forbid_stops(logits: Tensor, state: State, slots: Tensor, rows: Tensor) -> None:
    """Loop of `forbid_stops`."""
    for i in _all_short(state.ints.numpy(), slots.numpy()):
        row, slot = logits[rows[i]], slots[i]
        stops = state.stops[slot, : state.ints[slot, at.STOPS]].long()
        kept = row[stops]
        row[stops] = -math.inf
        if not (row > -math.inf).any():
            row[stops] = kept
