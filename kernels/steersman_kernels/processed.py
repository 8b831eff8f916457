"""Measurements of a step that only some of its requests ask for, written into the track.

They are on the device like all that is measured: nothing waits for the host, and a request that
does not ask costs nothing.
"""

import torch
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.entropy import entropy_triton, logprobs
from steersman_kernels.loops import loops


def measure_processed(
    logits: Tensor, rows: Tensor, tokens: Tensor, track: Tensor, watched: Tensor
) -> None:
    """Measure the processed distributions that tokens were drawn from.

    Writes T_PROCESSED_ENTROPY and T_PROCESSED_LOGPROB: see `steersman_kernels.layout.Value`. Both
    stay NaN where the track says that no token was drawn.

    Args:
        logits: `[batch, vocabulary]`, bfloat16, float16 or float32, as they were drawn from; the
            last dimension contiguous. -inf masks a token; at least one of a row must be finite.
        rows: `[n]`, int64: rows of `logits` and of `tokens` that are measured.
        tokens: `[batch]`, int32 or int64: the final tokens. One may be outside the vocabulary.
        track: `[any, TRACK]`, float32, contiguous, as `govern` or `measure` wrote it; changed in
            place.
        watched: `[n]`, int64: their rows of the track.

    """
    run = measure_processed_triton if logits.is_cuda else loops("entropy").measure_processed
    run(logits, rows, tokens, track, watched)


def measure_processed_triton(
    logits: Tensor, rows: Tensor, tokens: Tensor, track: Tensor, watched: Tensor
) -> None:
    """`measure_processed` by the kernel of `entropy`, whatever the device of its tensors."""
    statistics = entropy_triton(logits, rows)
    own = logprobs(logits, rows, tokens[rows], statistics)
    _write(track, watched, statistics[:, at.ENTROPY], own)


def measure_greedy(track: Tensor, watched: Tensor) -> None:
    """Write the same for greedy requests: their processed distribution is one token.

    Args:
        track: As in `measure_processed`.
        watched: `[n]`, int64: their rows of the track.

    """
    nothing = torch.zeros(len(watched), device=track.device)
    _write(track, watched, nothing, nothing)


def _write(track: Tensor, watched: Tensor, entropies: Tensor, own: Tensor) -> None:
    forced = track[watched, at.T_FORCED]  # NaN where no token was drawn
    track[watched, at.T_PROCESSED_ENTROPY] = torch.where(forced >= 0, entropies, torch.nan)
    track[watched, at.T_PROCESSED_LOGPROB] = torch.where(forced == 0, own, torch.nan)


def confidence(logits: Tensor, rows: Tensor, lse: Tensor) -> Tensor:
    """Mean log-probability of the likeliest tokens of some rows of logits.

    Args:
        logits: `[batch, vocabulary]`, bfloat16, float16 or float32; the last dimension contiguous.
            -inf masks a token.
        rows: `[n]`, int32 or int64: which rows.
        lse: `[n]`, float32: log-sum-exp of each of them.

    Returns:
        `[n]`, float32: `Value.confidence`, over `CONFIDENT_TOKENS` tokens or as many as are not
        masked. NaN where the log-sum-exp is.

    """
    function = confidence_topk if logits.is_cuda else loops("entropy").confidence
    found: Tensor = function(logits, rows, lse)
    return found


def confidence_topk(logits: Tensor, rows: Tensor, lse: Tensor) -> Tensor:
    """`confidence` by PyTorch, whatever the device of its tensors."""
    most = min(at.CONFIDENT_TOKENS, logits.shape[1])
    likeliest = logits[rows].topk(most, sorted=False).values.float()
    there = likeliest > -torch.inf
    return torch.where(there, likeliest, 0.0).sum(dim=1) / there.sum(dim=1) - lse
