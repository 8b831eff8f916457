"""`entropy`, `measuring` and `processed` on a CPU, and log-probabilities of governed tokens."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numba  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.loops.bits import ELEMENTS, pointer, value
from steersman_kernels.loops.compiled import njit

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
@njit(fastmath={"contract"})
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
@njit(fastmath={"contract", "nsz", "reassoc", "nnan"}, error_model="numpy")
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
    out[at.LSE] = largest + log
    out[at.ENTROPY] = log - spread / total
    out[at.TOP] = _F(1) / total


@functools.cache
def _entropy(element: type) -> Any:
    @njit()
    def loop(
        logits: int, batch: int, stride: int, size: int, count: int, rows: int, out: int
    ) -> None:
        table = numba.carray(pointer(logits), (batch, stride), element)
        wanted = numba.carray(pointer(rows), (count,), np.int64)
        found = numba.carray(pointer(out), (count, at.STATISTICS), np.float32)
        for i in range(count):
            _statistics(table[wanted[i]][:size], found[i])

    return loop


@njit()
def _logprob(row: NDArray[np.float32 | np.int16], token: int, lse: np.float32) -> np.float32:
    """The token's log-probability; NaN outside the vocabulary."""
    return value(row[token]) - lse if 0 <= token < len(row) else _F(np.nan)


@functools.cache
def _measure(element: type) -> Any:
    @njit()
    def loop(
        logits: int,
        batch: int,
        stride: int,
        size: int,
        count: int,
        logit_rows: int,
        tokens: int,
        token_rows: int,
        out: int,
    ) -> None:
        table = numba.carray(pointer(logits), (batch, stride), element)
        rows = numba.carray(pointer(logit_rows), (count,), np.int64)
        drawn_at = numba.carray(pointer(token_rows), (count,), np.int64)
        track = numba.carray(pointer(out), (count, at.TRACK), np.float32)
        found = np.empty(at.STATISTICS, np.float32)
        for i in range(count):
            row = table[rows[i]][:size]
            _statistics(row, found)
            token = numba.carray(pointer(tokens), (drawn_at[i] + 1,), np.int64)[drawn_at[i]]
            track[i] = 0
            track[i, at.T_PROCESSED_ENTROPY] = np.nan
            track[i, at.T_PROCESSED_LOGPROB] = np.nan
            track[i, at.T_CONFIDENCE] = np.nan
            track[i, at.T_ENTROPY] = found[at.ENTROPY]
            track[i, at.T_LOGPROB] = _logprob(row, token, found[at.LSE])
            track[i, at.T_TOP] = found[at.TOP]

    return loop


@functools.cache
def _measure_processed(element: type) -> Any:
    @njit()
    def loop(
        logits: int,
        batch: int,
        stride: int,
        size: int,
        count: int,
        rows: int,
        tokens: int,
        out: int,
        watched: int,
    ) -> None:
        table = numba.carray(pointer(logits), (batch, stride), element)
        wanted = numba.carray(pointer(rows), (count,), np.int64)
        drawn = numba.carray(pointer(tokens), (batch,), np.int64)
        lines = numba.carray(pointer(watched), (count,), np.int64)
        found = np.empty(at.STATISTICS, np.float32)
        for i in range(count):
            track = numba.carray(pointer(out), (lines[i] + 1, at.TRACK), np.float32)[lines[i]]
            forced = track[at.T_FORCED]
            track[at.T_PROCESSED_ENTROPY] = track[at.T_PROCESSED_LOGPROB] = np.nan
            if np.isnan(forced):
                continue  # no token was drawn
            row = table[wanted[i]][:size]
            _statistics(row, found)
            track[at.T_PROCESSED_ENTROPY] = found[at.ENTROPY]
            if forced == 0:
                logprob = _logprob(row, drawn[wanted[i]], found[at.LSE])
                track[at.T_PROCESSED_LOGPROB] = logprob

    return loop


@njit()
def _confident(row: NDArray[np.float32 | np.int16], kept: NDArray[np.float32]) -> np.float32:
    """Mean of the row's largest logits, as many as are kept; -inf stays out of it."""
    kept[:] = -np.inf
    least = 0  # where the least of them is
    for j in range(row.shape[0]):
        logit = value(row[j])
        if logit > kept[least]:
            kept[least] = logit
            least = int(kept.argmin())
    total, there = _F(0), 0
    for logit in kept:
        if logit > -np.inf:
            total += logit
            there += 1
    return total / _F(there) if there else _F(np.nan)


@functools.cache
def _confidence(element: type) -> Any:
    @njit()
    def loop(
        logits: int,
        batch: int,
        stride: int,
        size: int,
        count: int,
        rows: int,
        lse: int,
        out: int,
    ) -> None:
        table = numba.carray(pointer(logits), (batch, stride), element)
        wanted = numba.carray(pointer(rows), (count,), np.int64)
        totals = numba.carray(pointer(lse), (count,), np.float32)
        found = numba.carray(pointer(out), (count,), np.float32)
        kept = np.empty(min(at.CONFIDENT_TOKENS, size), np.float32)
        for i in range(count):
            found[i] = _confident(table[wanted[i]][:size], kept) - totals[i]

    return loop


@functools.cache
def _logprobs(element: type) -> Any:
    @njit()
    def loop(
        logits: int,
        batch: int,
        stride: int,
        size: int,
        count: int,
        logit_rows: int,
        tokens: int,
        token_rows: int,
        statistics: int,
        out: int,
    ) -> None:
        table = numba.carray(pointer(logits), (batch, stride), element)
        rows = numba.carray(pointer(logit_rows), (count,), np.int64)
        drawn_at = numba.carray(pointer(token_rows), (count,), np.int64)
        measured = numba.carray(pointer(statistics), (count, at.STATISTICS), np.float32)
        track = numba.carray(pointer(out), (count, at.TRACK), np.float32)
        for i in range(count):
            if not np.isnan(track[i, at.T_ENTROPY]):
                token = numba.carray(pointer(tokens), (drawn_at[i] + 1,), np.int64)[drawn_at[i]]
                logprob = _logprob(table[rows[i]][:size], token, measured[i, at.LSE])
                track[i, at.T_LOGPROB] = logprob

    return loop


def entropy(logits: Tensor, rows: Tensor) -> Tensor:
    """Loop of `entropy`."""
    rows = _int64(rows)
    out = torch.empty(len(rows), at.STATISTICS)
    _over(_entropy, logits, len(rows), rows.data_ptr(), out.data_ptr())
    return out


def measure_processed(
    logits: Tensor, rows: Tensor, tokens: Tensor, track: Tensor, watched: Tensor
) -> None:
    """Loop of `measure_processed`."""
    tokens = _int64(tokens)
    addresses = map(Tensor.data_ptr, (rows, tokens, track, watched))
    _over(_measure_processed, logits, len(rows), *addresses)


def confidence(logits: Tensor, rows: Tensor, lse: Tensor) -> Tensor:
    """Loop of `confidence`."""
    rows, lse = _int64(rows), lse.contiguous()
    out = torch.empty(len(rows))
    addresses = map(Tensor.data_ptr, (rows, lse, out))
    _over(_confidence, logits, len(rows), *addresses)
    return out


class Measuring:
    """Loop of `measuring`, kept between calls: half of a call would be to find the same anew."""

    def __init__(self, logit_rows: Tensor, token_rows: Tensor) -> None:
        # The loop has but their addresses: they must stay.
        self._rows, self._token_rows = _int64(logit_rows), _int64(token_rows)
        self._track = torch.empty(len(logit_rows), at.TRACK)
        self._wanted = (len(logit_rows), self._rows.data_ptr())
        self._known = (self._token_rows.data_ptr(), self._track.data_ptr())
        self._dtype: torch.dtype | None = None  # of the last logits
        self._loop: Any = None

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        if logits.dtype != self._dtype:
            self._dtype = logits.dtype
            self._loop = _measure(ELEMENTS.get(logits.dtype, np.float32))
        if self._dtype not in ELEMENTS:
            logits = logits.float()
        tokens = _int64(tokens)
        batch, size = logits.shape
        table = (logits.data_ptr(), batch, logits.stride(0), size)
        self._loop(*table, *self._wanted, tokens.data_ptr(), *self._known)
        return self._track


def logprobs(
    logits: Tensor,
    logit_rows: Tensor,
    tokens: Tensor,
    token_rows: Tensor,
    statistics: Tensor,
    track: Tensor,
) -> None:
    """Write T_LOGPROB into a track that has all else; NaN stays where no entropy is."""
    rows, tokens, token_rows = _int64(logit_rows), _int64(tokens), _int64(token_rows)
    addresses = map(Tensor.data_ptr, (rows, tokens, token_rows, statistics, track))
    _over(_logprobs, logits, len(rows), *addresses)


def _over(loop: Callable[[type], Any], logits: Tensor, *rest: int) -> None:
    """Run a loop over rows of logits. All tensors come as addresses: to make NumPy's views of them
    would cost as much as the loop."""
    element = ELEMENTS.get(logits.dtype)
    if element is None:
        element, logits = np.float32, logits.float()
    batch, size = logits.shape
    loop(element)(logits.data_ptr(), batch, logits.stride(0), size, *rest)


def _int64(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.int64 else tensor.long()
