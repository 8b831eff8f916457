"""The gate on a CPU: its definition, a request and a token at a time."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.loops.bits import among
from steersman_kernels.loops.compiled import njit
from steersman_kernels.vocabulary import Vocabulary


@njit()
def _completes(marker: NDArray[np.int32], state: NDArray[np.int32], position: int) -> bool:
    """Tell whether the last generated tokens are the marker."""
    length = len(marker)
    if length == 0 or position - length + 1 < state[at.ORIGIN]:
        return False
    for age in range(length):
        if state[at.RECENT + (position - age) % at.MARKER_TOKENS] != marker[length - 1 - age]:
            return False
    return True


@njit()
def _gate(
    requests: NDArray[np.int32],
    slots: NDArray[np.int32],
    query_start: NDArray[np.int32],
    positions: NDArray[np.int64],
    token_ids: NDArray[np.int32 | np.int64],
    boundary: NDArray[np.uint8],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    implicit: NDArray[np.int32],
    bank_rows: NDArray[np.int32],
) -> None:
    bank_rows[:] = -1
    for request in range(len(slots)):
        if slots[request] < 0:
            continue
        state = requests[slots[request]]
        first, last = query_start[request], query_start[request + 1]
        # The phases first: a marker counts for every row of the step.
        for row in range(first, last):
            token, position = token_ids[row], positions[row]
            if position < state[at.ORIGIN]:
                continue
            state[at.RECENT + position % at.MARKER_TOKENS] = token
            if _completes(start, state, position):
                state[at.OPENED] = min(state[at.OPENED], position)
            if _completes(end, state, position) or among(implicit, token):
                state[at.CLOSED] = min(state[at.CLOSED], position)
        for row in range(first, last):
            token, position = token_ids[row], positions[row]
            if position < state[at.ORIGIN]:
                kind = 2 * at.IN_PROMPT
            elif state[at.OPENED] <= position < state[at.CLOSED]:
                kind = 2 * at.IN_THINKING
            else:
                kind = 2 * at.IN_ANSWER
            if 0 <= token < len(boundary) and boundary[token]:
                kind += 1
            bank_rows[row] = state[at.ROWS + kind]
            if bank_rows[row] >= 0:
                state[at.COUNTS + kind] += 1


def gate(
    requests: Tensor,
    slots: Tensor,
    query_start: Tensor,
    positions: Tensor,
    token_ids: Tensor,
    vocabulary: Vocabulary,
    bank_rows: Tensor,
) -> None:
    """Loop of `gate`."""
    _gate(
        requests.numpy(),
        slots.numpy(),
        query_start.numpy(),
        positions.numpy(),
        token_ids.numpy(),
        vocabulary.boundary.numpy(),
        vocabulary.start.numpy(),
        vocabulary.end.numpy(),
        vocabulary.implicit.numpy(),
        bank_rows.numpy(),
    )
