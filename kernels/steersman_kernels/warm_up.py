"""Compiling, before the first request, all that a GPU's watched batches can need.

Triton compiles a kernel anew for each type of its tensors, for numbers that are 1 or multiples of
16, and for each compile-time constant. A batch that is the first to bring one of them waits for the
compiler, and with it every request in it.
"""

import torch
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.entropy import entropy, entropy_triton, kinds, measuring
from steersman_kernels.governor import State, Step, govern
from steersman_kernels.governor_kernels import govern_triton
from steersman_kernels.processed import confidence, measure_processed
from steersman_kernels.stops import forbid_stops, forbid_stops_triton
from steersman_kernels.strength import coefficients, coefficients_triton
from steersman_kernels.vocabulary import Vocabulary

PADDING = 64
"""vLLM pads the rows of logits to a multiple of this, and hands on their beginnings."""


def warm_up(vocabulary: Vocabulary, dtype: torch.dtype, most: int) -> None:
    """Run the kernels that watch and govern once, so that no batch waits for a compiler.

    Args:
        vocabulary: The server's, on the model's device.
        dtype: The model's. It may compute its logits in float32 all the same.
        most: Requests that a batch can have.

    """
    device = vocabulary.boundary.device
    if device.type != "cpu":
        warm_up_triton(vocabulary, dtype, most)
    row, slot, state = _one(device)
    logits = torch.zeros(1, len(vocabulary.boundary), dtype=dtype, device=device)
    measuring(row, row)(logits, row)
    forbid_stops(logits, state, slot, row)
    coefficients(torch.empty(1, device=device), state, slot, _span(device), row)
    statistics = entropy(logits, row)
    step = _step(row, row, logits, statistics)
    govern(state, vocabulary, step)
    measure_processed(logits, row, row, step.track, row)
    confidence(logits, row, statistics[:, at.LSE])


def warm_up_triton(vocabulary: Vocabulary, dtype: torch.dtype, most: int) -> None:
    """Launch the kernels in each way in which batches can ask for it, whatever the device."""
    device, size = vocabulary.boundary.device, len(vocabulary.boundary)
    row, slot, state = _one(device)
    coefficients_triton(torch.empty(1, device=device), state, slot, _span(device), row)
    padded = -(-size // PADDING) * PADDING
    for type_ in dict.fromkeys((dtype, torch.float32)):
        for stride in dict.fromkeys((padded, size)):
            logits = torch.zeros(1, stride, dtype=type_, device=device)[:, :size]
            for rows in kinds(size, most):
                entropy_triton(logits, torch.zeros(rows, dtype=torch.int64, device=device))
            forbid_stops_triton(logits, state, slot, row)
        for tokens in (torch.int64, torch.int32):
            sampled = torch.zeros(1, dtype=tokens, device=device)
            step = _step(row, sampled, logits, entropy_triton(logits, row))
            govern_triton(state, vocabulary, step)


def _one(device: torch.device) -> tuple[Tensor, Tensor, State]:
    """The first row, the first slot, and a table of one request."""
    row = torch.zeros(1, dtype=torch.int64, device=device)
    return row, row.int(), State.empty(1, device)


def _span(device: torch.device) -> Tensor:
    return torch.arange(2, dtype=torch.int32, device=device)


def _step(row: Tensor, sampled: Tensor, logits: Tensor, statistics: Tensor) -> Step:
    track = torch.empty(1, at.TRACK, device=row.device)
    return Step(row.int(), row, row, sampled, logits, row, statistics, track)
