"""Straight lines through measurements, with intervals: what goes up, and what only moves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2000
_FEWEST = 6
BLOCKS = 8
"""Stretches of neighbours that residuals are resampled in: memory moves in steps that last."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The line of least squares through measurements.

    Attributes:
        slope: Its change in a unit of time.
        low: Lower end of the 95 % interval of the slope.
        high: Upper end.
        middle: Its value at the mean time.
        at: The mean time.

    """

    slope: float
    low: float
    high: float
    middle: float
    at: float

    def value(self, time: float) -> float:
        """Value of the line at a time."""
        return self.middle + self.slope * (time - self.at)


def trend(times: Sequence[float], values: Sequence[float], blocks: int = BLOCKS) -> Trend:
    """Fit a line. All measurements count, so neither end point decides.

    The interval is of a bootstrap that resamples the residuals in blocks of neighbours (Künsch
    1989), so that slow wandering counts as one movement and not as many. Its standard error is
    taken times Student's t for as many degrees of freedom as there are blocks but two.

    Args:
        times: When they were taken.
        values: The measurements.
        blocks: Stretches that the measurements are cut into, at least 6.

    Raises:
        ValueError: There are too few measurements or blocks.

    """
    if blocks < _FEWEST or len(times) < blocks:
        raise ValueError(f"{len(times)} measurements have no trend")
    x, y = np.asarray(times, np.float64), np.asarray(values, np.float64)
    at = x.mean()
    centred = x - at
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    residuals = y - y.mean() - slope * centred
    length = -(-len(x) // blocks)
    drawing = np.random.default_rng(0)
    starts = drawing.integers(0, len(x) - length + 1, (_RESAMPLES, blocks))
    places = (starts[:, :, None] + np.arange(length)).reshape(_RESAMPLES, -1)[:, : len(x)]
    slopes = residuals[places] @ centred / spread
    wide = float(slopes.std()) * student(blocks - 2)
    return Trend(slope, slope - wide, slope + wide, float(y.mean()), float(at))


def student(degrees: int) -> float:
    """Quantile 0.975 of Student's t, within 0.02 from 4 degrees of freedom on (Abramowitz and
    Stegun 26.7.5)."""
    z = 1.959964
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )
