"""`entropy` and `measure` on a CPU, and the log-probabilities of governed tokens."""

import math

import numba  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steersman_kernels.governed import (
    ENTROPY,
    LSE,
    STATISTICS,
    T_ENTROPY,
    T_LOGPROB,
    T_TOP,
    TOP,
    TRACK,
)
from steersman_kernels.loops.bits import value

_F = np.float32
_LOG2_E = _F(math.log2(math.e))
# ln 2 in two parts: the first has so few bits that small integers times it are exact.
_LN_2 = _F(0.693359375)
_LN_2_REST = _F(math.log(2) - 0.693359375)
_ROUNDS = _F(1.5 * 2**23)
"""Added to a small float32 it leaves the nearest integer in the lowest bits."""
_ONE = np.int32(0x3F800000)
"""The bits of 1.0."""
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_LEAST = _F(-87.0)
"""exp of less is no normal float32; beside the largest logit it has no weight."""


# Its terms must not be put in another order, so it is a function of its own.
@numba.njit(fastmath={"contract"})  # type: ignore[untyped-decorator]
def _exp(x: np.float32) -> np.float32:
    """exp of `_LEAST` to 0, within 2e-7 of itself: the polynomial of Cephes' `expf`."""
    shifted = x * _LOG2_E + _ROUNDS
    whole = shifted - _ROUNDS
    rest = x - whole * _LN_2 - whole * _LN_2_REST
    p = _F(1.9875691500e-4)
    p = p * rest + _F(1.3981999507e-3)
    p = p * rest + _F(8.3334519073e-3)
    p = p * rest + _F(4.1665795894e-2)
    p = p * rest + _F(1.6666665459e-1)
    p = p * rest + _F(5.0000001201e-1)
    p = p * rest * rest + rest + _F(1)
    power = np.int32(np.int32(_F(shifted).view(np.int32) << 23) + _ONE)
    return p * np.int32(power).view(np.float32)


# Sums in any order: that makes them vectors. NaN, which the compiler may not expect then, is told
# by its bits.
@numba.njit(fastmath={"contract", "nsz", "reassoc", "nnan"}, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _statistics(row: NDArray[np.float32 | np.int16], out: NDArray[np.float32]) -> None:
    largest = _F(-np.inf)
    magnitude = np.int32(0)
    for j in range(row.shape[0]):
        logit = value(row[j])
        largest = max(largest, logit)
        magnitude = max(magnitude, np.int32(_F(logit).view(np.int32) & _MAGNITUDE))
    if magnitude > _INFINITY or largest == np.inf:
        out[:] = np.nan
        return
    # The largest stays out of the sum: nothing is lost where it has nearly all the mass.
    rest, spread, equals = _F(0), _F(0), _F(0)
    for j in range(row.shape[0]):
        gap = max(value(row[j]) - largest, _LEAST)
        weight = _exp(gap)
        spread += weight * gap
        rest += weight if gap < 0 else _F(0)
        equals += _F(0) if gap < 0 else _F(1)
    total = equals + rest
    log = np.log1p(rest / equals) + np.log(equals)
    out[LSE] = largest + log
    out[ENTROPY] = log - spread / total
    out[TOP] = _F(1) / total


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _entropy(
    logits: NDArray[np.float32 | np.int16], rows: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    for i in range(len(rows)):
        _statistics(logits[rows[i]], out[i])


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _logprob(row: NDArray[np.float32 | np.int16], token: int, lse: np.float32) -> np.float32:
    """The token's log-probability; NaN outside the vocabulary."""
    return value(row[token]) - lse if 0 <= token < len(row) else _F(np.nan)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _measure(
    logits: NDArray[np.float32 | np.int16],
    logit_rows: NDArray[np.int64],
    tokens: NDArray[np.int64],
    token_rows: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    found = np.empty(STATISTICS, np.float32)
    for i in range(len(logit_rows)):
        row = logits[logit_rows[i]]
        _statistics(row, found)
        out[i] = 0
        out[i, T_ENTROPY] = found[ENTROPY]
        out[i, T_LOGPROB] = _logprob(row, tokens[token_rows[i]], found[LSE])
        out[i, T_TOP] = found[TOP]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _logprobs(
    logits: NDArray[np.float32 | np.int16],
    logit_rows: NDArray[np.int64],
    tokens: NDArray[np.int64],
    token_rows: NDArray[np.int64],
    statistics: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    for i in range(len(logit_rows)):
        if not np.isnan(out[i, T_ENTROPY]):
            found = _logprob(logits[logit_rows[i]], tokens[token_rows[i]], statistics[i, LSE])
            out[i, T_LOGPROB] = found


def entropy(logits: Tensor, rows: Tensor) -> Tensor:
    """What `entropy` does."""
    out = torch.empty(len(rows), STATISTICS)
    _entropy(_readable(logits), rows.numpy(), out.numpy())
    return out


def measure(logits: Tensor, logit_rows: Tensor, tokens: Tensor, token_rows: Tensor) -> Tensor:
    """What `measure` does."""
    out = torch.empty(len(logit_rows), TRACK)
    _measure(_readable(logits), logit_rows.numpy(), tokens.numpy(), token_rows.numpy(), out.numpy())
    return out


def logprobs(
    logits: Tensor,
    logit_rows: Tensor,
    tokens: Tensor,
    token_rows: Tensor,
    statistics: Tensor,
    track: Tensor,
) -> None:
    """Write T_LOGPROB into a track that has all else; NaN stays where no entropy is."""
    _logprobs(
        _readable(logits),
        logit_rows.numpy(),
        tokens.numpy(),
        token_rows.numpy(),
        statistics.numpy(),
        track.numpy(),
    )


def _readable(logits: Tensor) -> NDArray[np.float32 | np.int16]:
    """Logits in a type that NumPy has and `_value` reads, their rows side by side.

    A model with a padded vocabulary hands on a slice, of which the loops would be compiled anew
    while a request waits, and not into vectors.
    """
    if logits.dtype == torch.bfloat16:
        logits = logits.view(torch.int16)
    elif logits.dtype != torch.float32:
        logits = logits.float()
    return logits.contiguous().numpy()
