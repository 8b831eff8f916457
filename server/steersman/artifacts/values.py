"""Values of one layer, as vectors and edits keep them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from steersman.artifacts.artifact import Refusal

Values = NDArray[np.float32]


def finite(given: NDArray[Any], layer: int, noun: str, refusal: Refusal) -> Values:
    """A copy in float32 that cannot be written to.

    Args:
        given: Of any shape.
        layer: The decoder layer.
        noun: The word for the values, in messages.
        refusal: Makes the error for a NaN or an infinity (in float32).

    """
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        values = np.array(given, dtype=np.float32)
    if not np.isfinite(values).all():
        raise refusal(f"{noun} has a NaN or infinite value", field=f"layers[{layer}]")
    values.flags.writeable = False
    return values
