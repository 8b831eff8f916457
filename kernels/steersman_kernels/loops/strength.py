"""`coefficients` on a CPU."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.governor import State
from steersman_kernels.loops.compiled import njit

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@njit()
def _coefficients(
    coef: Floats,
    ints: Ints,
    floats: Floats,
    ends: Ints,
    strengths: Floats,
    slots: Ints,
    query_start: Ints,
    positions: NDArray[np.int64],
) -> None:
    coef[:] = 1
    for i in range(len(slots)):
        slot = slots[i]
        if slot < 0 or ints[slot, at.LAW] == 0:
            continue
        known = ends[slot, : ints[slot, at.SEGMENTS]]
        for row in range(query_start[i], query_start[i + 1]):
            count = np.searchsorted(known, positions[row], side="right")
            coef[row] = strengths[slot, count - 1] if count > 0 else floats[slot, at.BASE]


def coefficients(
    coef: Tensor, state: State, slots: Tensor, query_start: Tensor, positions: Tensor
) -> None:
    """Loop of `coefficients`."""
    _coefficients(
        coef.numpy(),
        state.ints.numpy(),
        state.floats.numpy(),
        state.ends.numpy(),
        state.strengths.numpy(),
        slots.numpy(),
        query_start.numpy(),
        positions.numpy(),
    )
