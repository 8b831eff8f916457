"""A weighted sum of vectors, as one vector that can be calibrated and steered by name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steersman.vectors.vector import Vector, VectorError, VectorMetadata

if TYPE_CHECKING:
    from steersman.artifacts.values import Values

METHOD = "combination"

_SHARED = ("model", "model_digest", "phase", "at", "layers")
"""Metadata that the sum has too, where all of its terms agree."""


def combine(terms: Sequence[tuple[Vector, float]]) -> Vector:
    """The sum of vectors, each times its factor, at every layer that one of them has.

    Steering with it at strength s is steering with all terms at once, each at s times its factor,
    if they are steered at the same layers and tokens.

    Args:
        terms: Vectors and their factors.

    Returns:
        The sum, with strength 1, and without the fields that only a calibration can fill.
        Its provenance names the terms.

    Raises:
        VectorError: No terms; they are not of one model or one site; the sum overflows.

    """
    if not terms:
        raise VectorError("there is nothing to combine", field=None)
    first = terms[0][0]
    for vector, _ in terms:
        for name in ("site", "model_digest"):
            if getattr(vector.metadata, name) != getattr(first.metadata, name):
                raise VectorError(f"the vectors differ in {name}", field=f"metadata.{name}")
        if vector.hidden_size != first.hidden_size:
            raise VectorError(
                f"the vectors differ in hidden size: {first.hidden_size} and {vector.hidden_size}",
                field=None,
            )
    layers: dict[int, Values] = {}
    for vector, factor in terms:
        for layer, values in vector.layers.items():
            with np.errstate(over="ignore", invalid="ignore"):  # refused by the vector
                layers[layer] = layers.get(layer, 0) + np.float32(factor) * values
    return Vector(
        layers,
        VectorMetadata(
            site=first.metadata.site,
            method=METHOD,
            **_agreed([vector.metadata for vector, _ in terms]),
            provenance={"terms": [_described(vector, factor) for vector, factor in terms]},
        ),
    )


def _agreed(metadata: Sequence[VectorMetadata]) -> dict[str, Any]:
    first = metadata[0]
    return {
        name: getattr(first, name)
        for name in _SHARED
        if all(getattr(each, name) == getattr(first, name) for each in metadata)
    }


def _described(vector: Vector, factor: float) -> dict[str, Any]:
    return {
        "factor": factor,
        "digest": vector.digest,
        "method": vector.metadata.method,
        "provenance": vector.metadata.provenance,
    }
