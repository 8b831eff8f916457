"""Straight lines through measurements, with intervals: what goes up, and what only moves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCKS = 8
"""Stretches of neighbours whose means are fitted: memory moves in steps that last."""
_FEWEST = 6


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
    """Fit a line to the means of blocks of neighbours.

    All measurements count, so neither end point decides. The interval is the usual one of least
    squares, by Student's t, for which the blocks are what is independent: a step that lasts for
    many measurements counts once.

    Args:
        times: When they were taken, ascending.
        values: The measurements.
        blocks: Blocks that they are cut into, at least 6.

    Raises:
        ValueError: There are too few measurements or blocks.

    """
    if blocks < _FEWEST or len(times) < blocks:
        raise ValueError(f"{len(times)} measurements have no trend")
    x, y = (
        np.array([part.mean() for part in np.array_split(np.asarray(one, np.float64), blocks)])
        for one in (times, values)
    )
    at, middle = float(x.mean()), float(y.mean())
    centred = x - at
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    residuals = y - middle - slope * centred
    error = math.sqrt(float(residuals @ residuals) / (blocks - 2) / spread)
    wide = error * student(blocks - 2)
    return Trend(slope, slope - wide, slope + wide, middle, at)


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
