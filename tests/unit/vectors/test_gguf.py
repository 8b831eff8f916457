"""llama.cpp's control vectors, with the `gguf` package as the other side."""

import contextlib
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import given

from steersman.vectors import gguf, parse
from steersman.vectors.vector import Vector, VectorError

from .made_up import SIZE, all_vectors, vector


def as_repeng(
    path: Path,
    layers: dict[int, Any],
    *,
    architecture: str = "controlvector",
    name: str = "direction.{}",
    extra: Callable[[GGUFWriter], object] = lambda writer: None,
) -> bytes:
    """A file as repeng's `export_gguf` writes it."""
    writer = GGUFWriter(path / "vector.gguf", architecture)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(layers))
    extra(writer)
    for layer, values in layers.items():
        writer.add_tensor(name.format(layer), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (path / "vector.gguf").read_bytes()


def ones(size: int = 4) -> Any:
    return np.ones(size, np.float32)


@given(all_vectors(first_layer=1))
def test_round_trip(made: Vector) -> None:
    data = gguf.write(made)
    again = gguf.read(data)
    assert again == made
    assert gguf.write(again) == data
    assert parse(data) == made


def test_a_control_vector_of_repeng(tmp_path: Path) -> None:
    # repeng goes through the layers from the last to the first.
    layers = {2: np.arange(4, dtype=np.float32), 1: ones()}
    made = gguf.read(as_repeng(tmp_path, layers))
    assert [(i, values.tolist()) for i, values in made.layers.items()] == [
        (1, [1, 1, 1, 1]),
        (2, [0, 1, 2, 3]),
    ]
    assert (made.metadata.model, made.metadata.method) == ("llama", "control vector")
    assert (made.metadata.strength, made.metadata.phase) == (1.0, "all")


def test_keys_of_all_types_are_skipped(tmp_path: Path) -> None:
    def extra(writer: GGUFWriter) -> None:
        writer.add_bool("a.bool", True)
        writer.add_float64("a.float64", 0.5)
        writer.add_int8("a.int8", -1)
        writer.add_array("a.strings", ["one", "two"])
        writer.add_array("a.ints", [1, 2, 3])
        writer.add_custom_alignment(64)

    assert list(gguf.read(as_repeng(tmp_path, {1: ones()}, extra=extra)).layers) == [1]


def test_the_package_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "vector.gguf"
    path.write_bytes(gguf.write(vector(2.5, layers=(1, 3), model="tiny")))
    reader = GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert keys["general.architecture"] == "controlvector"
    assert keys["controlvector.model_hint"] == "tiny"
    assert keys["controlvector.layer_count"] == 2
    assert {t.name: (t.tensor_type.name, t.data.tolist()) for t in reader.tensors} == {
        "direction.1": ("F32", [2.5] * SIZE),
        "direction.3": ("F32", [2.5] * SIZE),
    }


def test_layer_0_cannot_be_written() -> None:
    with pytest.raises(VectorError, match=r"llama\.cpp cannot steer layer 0") as error:
        gguf.write(vector(layers=(0, 1)))
    assert error.value.field == "layers[0]"


def test_every_truncated_file_is_refused() -> None:
    data = gguf.write(vector(layers=(1, 2)))
    for length in range(len(data)):
        with pytest.raises(VectorError, match=r"ends early|not a GGUF file|architecture None"):
            gguf.read(data[:length])


def test_every_flipped_byte_is_read_or_refused() -> None:
    data = gguf.write(vector(layers=(1, 2)))
    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        with contextlib.suppress(VectorError):
            # What is read is a whole vector: every layer of one size, every value finite.
            read = gguf.read(flipped)
            assert {len(values) for values in read.layers.values()} == {read.hidden_size}
            assert all(np.isfinite(values).all() for values in read.layers.values())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends early"),
        (b"abcdefgh", "not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 1), "version 2 or 3"),
        (b"GGUF" + struct.pack(">I", 3), "little-endian"),
    ],
)
def test_what_is_no_gguf_file(data: bytes, message: str) -> None:
    with pytest.raises(VectorError, match=message) as error:
        gguf.read(data)
    assert error.value.field == "vector"


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def raw(*values: bytes, keys: int = 1, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + b"".join(values)


def tensor(layer: int, size: int, offset: int) -> bytes:
    name = text(f"direction.{layer}")
    return name + struct.pack("<IQIQ", 1, size, 0, offset)


CONTROL_VECTOR = text("general.architecture") + struct.pack("<I", 8) + text("controlvector")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # Counts that no file can hold, and values that would be nested without end.
        (raw(keys=2**63), "ends early"),
        (raw(text("x"), struct.pack("<IIQ", 9, 9, 2**40)), "an array of type 9"),
        (raw(text("x"), struct.pack("<IIQ", 9, 4, 2**40)), "ends early"),
        (raw(text("x"), struct.pack("<IIQ", 9, 8, 2**40)), "ends early"),
        (raw(text("x"), struct.pack("<I", 77)), "unknown type 77"),
        (raw(CONTROL_VECTOR, tensors=2**62), "ends early"),
        (raw(CONTROL_VECTOR, tensor(1, 2**62, 0), tensors=1), "ends early"),
        (raw(CONTROL_VECTOR, tensor(1, 1, 2**62), tensors=1), "ends early"),
        # Many tensors over the same bytes.
        (
            raw(CONTROL_VECTOR, *(tensor(i, 99, 0) for i in range(1, 9)), bytes(400), tensors=8),
            "early",
        ),
        (raw(CONTROL_VECTOR, tensor(1, 1, 0), tensor(1, 1, 0), bytes(99), tensors=2), "twice"),
        (raw(CONTROL_VECTOR), "no layers"),
        (
            raw(CONTROL_VECTOR, text("general.alignment"), struct.pack("<II", 4, 0), keys=2),
            "an alignment of 0",
        ),
    ],
)
def test_counts_in_a_file_are_not_believed(data: bytes, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        gguf.read(data)


@pytest.mark.parametrize(
    ("layers", "options", "field", "message"),
    [
        ({1: ones()}, {"architecture": "llama"}, "vector", "architecture 'llama'"),
        ({1: ones()}, {"name": "blk.{}.weight"}, "vector", "tensor 'blk.1.weight'"),
        ({0: ones()}, {}, "vector", "tensor 'direction.0'"),
        ({1: ones().astype(np.float16)}, {}, "layers[1]", "must be F32 and one-dimensional"),
        ({1: ones().reshape(2, 2)}, {}, "layers[1]", "must be F32 and one-dimensional"),
        ({1: ones(), 2: ones(3)}, {}, "layers[2]", "layer 2 has 3 values, layer 1 has 4"),
        ({1: ones() * np.nan}, {}, "layers[1]", "NaN"),
    ],
)
def test_foreign_files(
    tmp_path: Path, layers: dict[int, Any], options: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(VectorError, match=re.escape(message)) as error:
        gguf.read(as_repeng(tmp_path, layers, **options))
    assert error.value.field == field


def test_damaged_metadata_of_our_own(tmp_path: Path) -> None:
    data = as_repeng(tmp_path, {1: ones()}, extra=lambda w: w.add_string(gguf.KEY, '{"x": 1}'))
    with pytest.raises(VectorError, match="unknown metadata: x"):
        gguf.read(data)
