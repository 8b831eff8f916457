"""llama.cpp's control vectors: GGUF files with tensors `direction.N`, as repeng writes them too.

llama.cpp adds `direction.N` at the output of block N, counted from 0, which is what layer N of a
`Vector` means. It has no direction for block 0 and reads nothing but the tensors. Our metadata
travel in a key of their own, which llama.cpp skips.

Files are read here and not by the `gguf` package, whose reader believes every count in a file: one
of 49 bytes can keep it busy for minutes and take all memory.
"""

import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from steersman.artifacts.values import Values
from steersman.vectors.vector import Vector, VectorError, VectorMetadata

MAGIC = b"GGUF"
KEY = "steersman.metadata"
"""Where our own metadata is in files that we wrote."""

_ARCHITECTURE = "controlvector"
_NAME = re.compile(r"direction\.([1-9][0-9]{0,5})\Z")
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_F32 = 0
_DEFAULT_ALIGNMENT = 32


def read(data: bytes) -> Vector:
    """Read a control vector. One that we did not write gets the default metadata.

    Raises:
        VectorError: It is no GGUF file of versions 2 or 3, no control vector, or ends early.

    """
    cursor = _Cursor(data)
    if cursor.take(4) != MAGIC:
        raise VectorError("not a GGUF file", field="vector")
    version = cursor.scalar("I")
    if version not in (2, 3):
        raise VectorError(
            "not a little-endian GGUF file of version 2 or 3: convert it with llama.cpp first",
            field="vector",
        )
    tensors, keys = cursor.scalar("Q"), cursor.scalar("Q")
    values = {}
    for _ in range(keys):
        key = cursor.text()
        values[key] = cursor.value(cursor.scalar("I"))
    architecture = values.get("general.architecture")
    if architecture != _ARCHITECTURE:
        raise VectorError(
            f"a GGUF file of architecture {architecture!r}, not {_ARCHITECTURE!r}", field="vector"
        )
    places: dict[int, tuple[int, int]] = {}
    for _ in range(tensors):
        layer, place = _tensor(cursor)
        if layer in places:
            raise VectorError(f"direction.{layer} is in the file twice", field=f"layers[{layer}]")
        places[layer] = place
    if 4 * sum(size for _, size in places.values()) > len(data):
        raise VectorError("the GGUF file ends early", field="vector")
    cursor.align(values.get("general.alignment", _DEFAULT_ALIGNMENT))
    base = cursor.offset
    layers = {layer: cursor.floats(base + at, size) for layer, (at, size) in places.items()}
    return Vector(layers, _metadata(values))


def write(vector: Vector) -> bytes:
    """The control vector, for llama.cpp: its `--control-vector-scaled` gives the strength.

    Raises:
        VectorError: The vector has a layer 0, which llama.cpp cannot steer, or is of another site.

    """
    if vector.metadata.site != "layer":
        raise VectorError(
            f"llama.cpp steers the output of layers, not site {vector.metadata.site!r}",
            field="metadata.site",
        )
    if 0 in vector.layers:
        raise VectorError(
            "llama.cpp cannot steer layer 0: this vector cannot be written as GGUF",
            field="layers[0]",
        )
    from gguf import GGUFWriter  # takes a second to import

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "vector.gguf")
        writer = GGUFWriter(path, _ARCHITECTURE)
        writer.add_string(f"{_ARCHITECTURE}.model_hint", vector.metadata.model or "")
        writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(vector.layers))
        writer.add_string(KEY, vector.metadata.write())
        for layer, values in vector.layers.items():
            writer.add_tensor(f"direction.{layer}", values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def _metadata(values: dict[str, Any]) -> VectorMetadata:
    ours = values.get(KEY)
    if isinstance(ours, str):
        return VectorMetadata.read(ours)
    hint = values.get(f"{_ARCHITECTURE}.model_hint")
    return VectorMetadata(
        site="layer",
        method="control vector",
        model=hint if isinstance(hint, str) and hint else None,
    )


def _tensor(cursor: "_Cursor") -> tuple[int, tuple[int, int]]:
    """Layer, and where the values are: bytes from the start of the data, and their number."""
    name = cursor.text()
    match = _NAME.match(name)
    if match is None:
        raise VectorError(
            f"tensor {name!r}: those of a control vector are named direction.N, N from 1",
            field="vector",
        )
    layer = int(match[1])
    dimensions = [cursor.scalar("Q") for _ in range(cursor.scalar("I"))]
    kind, offset = cursor.scalar("I"), cursor.scalar("Q")
    if kind != _F32 or len(dimensions) != 1:
        raise VectorError(
            f"tensor {name} must be F32 and one-dimensional, as llama.cpp wants it",
            field=f"layers[{layer}]",
        )
    return layer, (offset, dimensions[0])


class _Cursor:
    """A place in the file, which moves on as it is read and never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def take(self, size: int) -> bytes:
        end = self.offset + size
        if end > len(self._data):
            raise VectorError("the GGUF file ends early", field="vector")
        taken = self._data[self.offset : end]
        self.offset = end
        return taken

    def scalar(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self) -> str:
        return self.take(self.scalar("Q")).decode(errors="replace")

    def value(self, kind: int) -> Any:
        """A value of a key; None for an array, which no key of ours is."""
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise VectorError(f"the GGUF file has a value of unknown type {kind}", field="vector")
        item, length = self.scalar("I"), self.scalar("Q")
        if item in _SCALARS:
            self.take(length * struct.calcsize(f"<{_SCALARS[item]}"))
        elif item == _STRING:
            for _ in range(length):
                self.take(self.scalar("Q"))
        else:
            raise VectorError(f"the GGUF file has an array of type {item}", field="vector")
        return None

    def align(self, alignment: object) -> None:
        if not isinstance(alignment, int) or alignment < 1:
            raise VectorError(f"the GGUF file has an alignment of {alignment!r}", field="vector")
        self.offset += -self.offset % alignment

    def floats(self, offset: int, size: int) -> Values:
        self.offset = offset
        return np.frombuffer(self.take(4 * size), "<f4")
