"""Small vectors and files that the tests of this package build on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save

from steersman.vectors import file
from steersman.vectors.vector import Vector, VectorMetadata

SIZE = 8
"""Hidden size of the tests' made-up model; it has layers 0 and 1."""

METADATA: Mapping[str, Any] = {"site": "layer", "method": "by hand"}


def vector(value: float = 1.0, *, layers: tuple[int, ...] = (0, 1), **metadata: Any) -> Vector:
    """A vector with the same value everywhere."""
    values = {layer: np.full(SIZE, value, np.float32) for layer in layers}
    return Vector(values, VectorMetadata.model_validate({**METADATA, **metadata}))


def content(value: float = 1.0, **options: Any) -> bytes:
    """The file of `vector`."""
    return file.write(vector(value, **options))


def safetensors(
    tensors: Mapping[str, Any] | None = None, metadata: object = METADATA, **others: str
) -> bytes:
    """A safetensors file of any tensors; `metadata` goes in as JSON, a string as it is."""
    document = metadata if isinstance(metadata, str) else json.dumps(metadata)
    keys = others if metadata is None else {"steersman": document, **others}
    return save(dict(tensors or {"layer.0": np.ones(SIZE, np.float32)}), keys or None)


finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def all_metadata(draw: st.DrawFn) -> VectorMetadata:
    """Any metadata."""
    text = st.text(st.characters(codec="utf-8"))
    norms = st.dictionaries(st.integers(0, 200), st.floats(0, 1e300), max_size=3)
    return VectorMetadata(
        site="layer",
        method=draw(text.filter(bool)),
        model=draw(st.none() | text),
        model_digest=draw(st.none() | text),
        created_from=draw(st.none() | text),
        description=draw(text),
        strength=draw(finite),
        phase=draw(st.sampled_from(["all", "thinking", "answer"])),
        at=draw(st.sampled_from(["all", "boundary"])),
        strength_range=draw(st.none() | st.tuples(st.floats(-9, 0), st.floats(0, 9))),
        residual_norms=draw(st.none() | norms),
    )


@st.composite
def all_vectors(draw: st.DrawFn, *, first_layer: int = 0) -> Vector:
    """Any vector."""
    size = draw(st.integers(1, 5))
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = arrays.arrays(np.float32, size, elements=floats)
    layers = draw(st.dictionaries(st.integers(first_layer, 200), values, min_size=1, max_size=4))
    return Vector(layers, draw(all_metadata()))


def files(directory: Path) -> list[str]:
    """Names of the files in a directory."""
    return sorted(path.name for path in directory.iterdir())
