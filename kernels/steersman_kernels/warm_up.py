"""Compiling, before the first request, all that a GPU's watched batches can need.

Triton compiles a kernel anew for each type of its tensors, for numbers that are 1 or multiples of
16, and for each compile-time constant. A batch that is the first to bring one of them waits for the
compiler, and with it every request in it.
"""

import torch

from steersman_kernels.entropy import entropy_triton, kinds
from steersman_kernels.governed import TRACK, State, Vocabulary
from steersman_kernels.governor_kernels import (
    coefficients_triton,
    forbid_stops_triton,
    govern_triton,
)

PADDING = 64
"""vLLM pads the rows of logits to a multiple of this, and hands on their beginnings."""


def warm_up(vocabulary: Vocabulary, dtype: torch.dtype, most: int) -> None:
    """Launch what watches and governs in each way in which batches can ask for it.

    Args:
        vocabulary: That of the server; the kernels run where it is.
        dtype: The model's. It may compute its logits in float32 all the same.
        most: Requests that a batch can have.

    """
    device, size = vocabulary.boundary.device, len(vocabulary.boundary)
    row = torch.zeros(1, dtype=torch.int64, device=device)
    seat, spans = row.int(), torch.arange(2, dtype=torch.int32, device=device)
    state = State.empty(1, device)
    coefficients_triton(torch.empty(1, device=device), state, seat, spans, row)
    padded = -(-size // PADDING) * PADDING
    for type_ in dict.fromkeys((dtype, torch.float32)):
        for stride in dict.fromkeys((padded, size)):
            logits = torch.zeros(1, stride, dtype=type_, device=device)[:, :size]
            for rows in kinds(size, most):
                entropy_triton(logits, torch.zeros(rows, dtype=torch.int64, device=device))
            forbid_stops_triton(logits, state, seat, row)
        for tokens in (torch.int64, torch.int32):
            govern_triton(
                state,
                vocabulary,
                seats=seat,
                positions=row,
                rows=row,
                sampled=torch.zeros(1, dtype=tokens, device=device),
                logits=logits,
                logit_rows=row,
                statistics=entropy_triton(logits, row),
                track=torch.empty(1, TRACK, device=device),
            )
