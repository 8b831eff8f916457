"""Rows of a track, as the engine reports them."""

import math

from steersman_kernels.layout import Value


def packed(
    entropy: float = 0.0,
    logprob: float = -1.0,
    *,
    top: float = 0.5,
    processed_entropy: float = math.nan,
    processed_logprob: float = math.nan,
    confidence: float = math.nan,
    strength: float = 0.0,
    closed_by: int = 0,
    forced: int = 0,
) -> bytes:
    """A packed `Value`. Its request asks for neither the processed distribution nor confidence."""
    return Value(
        entropy,
        logprob,
        top,
        processed_entropy,
        processed_logprob,
        confidence,
        strength,
        closed_by,
        forced,
    ).packed()
