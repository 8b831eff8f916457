"""The file of a vector: safetensors, with tensors `layer.N` and one JSON document of metadata."""

import re

from steersman.artifacts import file as artifact
from steersman.vectors.vector import Vector, VectorError, VectorMetadata

_NAME = re.compile(r"layer\.(0|[1-9][0-9]{0,5})\Z")


def read(data: bytes) -> Vector:
    """Read a vector file.

    The tensors are F32, F16 or BF16, [hidden_size] each.

    Raises:
        VectorError: It is no such file.

    """
    document, tensors = artifact.read(data, "vector", VectorError)
    metadata = VectorMetadata.read(document)
    layers = {}
    for name, tensor in tensors.items():
        layer = _layer(name)
        layers[layer] = artifact.values(name, tensor, f"layers[{layer}]", VectorError)
    return Vector(layers, metadata)


def write(vector: Vector) -> bytes:
    """The file of a vector, in F32; the same bytes for equal vectors."""
    tensors = {f"layer.{layer}": values for layer, values in vector.layers.items()}
    return artifact.write(vector.metadata.write(), tensors)


def _layer(name: str) -> int:
    match = _NAME.match(name)
    if match is None:
        raise VectorError(
            f"tensor {name!r}: tensors are named layer.N, N the decoder layer, counted from 0",
            field="vector",
        )
    return int(match[1])
