"""The gate on a CPU: its definition, a request and a token at a time."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steersman_kernels.loops.compiled import njit
from steersman_kernels.steered import (
    CLOSED,
    COUNTS,
    MARKER_TOKENS,
    OPENED,
    ORIGIN,
    RECENT,
    ROWS,
    Markers,
)


@njit()
def _completes(marker: NDArray[np.int32], state: NDArray[np.int32], position: int) -> bool:
    """Tell whether the last generated tokens are the marker."""
    length = len(marker)
    if length == 0 or position - length + 1 < state[ORIGIN]:
        return False
    for age in range(length):
        if state[RECENT + (position - age) % MARKER_TOKENS] != marker[length - 1 - age]:
            return False
    return True


@njit()
def _among(ids: NDArray[np.int32], token: int) -> bool:
    for one in ids:  # noqa: SIM110 - numba knows no generators here
        if one == token:
            return True
    return False


@njit()
def _gate(
    requests: NDArray[np.int32],
    seats: NDArray[np.int32],
    query_start: NDArray[np.int32],
    positions: NDArray[np.int64],
    token_ids: NDArray[np.int32 | np.int64],
    boundary: NDArray[np.uint8],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    implicit: NDArray[np.int32],
    slot: NDArray[np.int32],
) -> None:
    slot[:] = -1
    for request in range(len(seats)):
        if seats[request] < 0:
            continue
        state = requests[seats[request]]
        first, last = query_start[request], query_start[request + 1]
        # The phases first: a marker counts for every row of the step.
        for row in range(first, last):
            token, position = token_ids[row], positions[row]
            if position < state[ORIGIN]:
                continue
            state[RECENT + position % MARKER_TOKENS] = token
            if _completes(start, state, position):
                state[OPENED] = min(state[OPENED], position)
            if _completes(end, state, position) or _among(implicit, token):
                state[CLOSED] = min(state[CLOSED], position)
        for row in range(first, last):
            token, position = token_ids[row], positions[row]
            if position < state[ORIGIN]:
                kind = 0
            elif state[OPENED] <= position < state[CLOSED]:
                kind = 2
            else:
                kind = 4
            if 0 <= token < len(boundary) and boundary[token]:
                kind += 1
            slot[row] = state[ROWS + kind]
            if slot[row] >= 0:
                state[COUNTS + kind] += 1


def gate(
    requests: Tensor,
    seats: Tensor,
    query_start: Tensor,
    positions: Tensor,
    token_ids: Tensor,
    boundary: Tensor,
    markers: Markers,
    slot: Tensor,
) -> None:
    """Loop of `gate`."""
    _gate(
        requests.numpy(),
        seats.numpy(),
        query_start.numpy(),
        positions.numpy(),
        token_ids.numpy(),
        boundary.numpy(),
        markers.start.numpy(),
        markers.end.numpy(),
        markers.implicit.numpy(),
        slot.numpy(),
    )
