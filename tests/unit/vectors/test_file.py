"""The safetensors file of a vector: round trips, and each file that is refused."""

import io
import json
import pickle
import re
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from safetensors.numpy import load
from safetensors.torch import save as save_torch

from steersman.vectors import file, parse
from steersman.vectors.vector import Vector, VectorError

from .made_up import METADATA, SIZE, all_vectors, content, safetensors, vector


@given(all_vectors())
def test_round_trip(made: Vector) -> None:
    data = file.write(made)
    again = file.read(data)
    assert again == made
    assert [(i, v.tobytes()) for i, v in again.layers.items()] == [
        (i, v.tobytes()) for i, v in made.layers.items()
    ]
    assert file.write(again) == data
    assert parse(data) == made


def test_equal_vectors_are_equal_files() -> None:
    first = vector(residual_norms={0: 1.0, 1: 2.0})
    second = vector(layers=(1, 0), residual_norms={1: 2.0, 0: 1.0})
    assert first == second
    assert file.write(first) == file.write(second)


def test_the_library_reads_what_is_written() -> None:
    tensors = load(content(2.5))
    assert sorted(tensors) == ["layer.0", "layer.1"]
    assert tensors["layer.1"].tolist() == [2.5] * SIZE
    assert tensors["layer.1"].dtype == np.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_of_other_widths_become_float32(dtype: torch.dtype) -> None:
    values = torch.linspace(-3, 1e4, SIZE).to(dtype)
    read = file.read(save_torch({"layer.7": values}, {"steersman": json.dumps(METADATA)}))
    assert read.layers[7].tolist() == values.float().tolist()


def test_other_metadata_of_the_file_are_left_alone() -> None:
    assert file.read(safetensors(format="pt")).metadata.method == "by hand"


def torch_saved() -> bytes:
    buffer = io.BytesIO()
    torch.save({"layer.0": torch.ones(2)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [torch_saved(), pickle.dumps({"layer.0": [1.0]})])
def test_pickles_are_refused(data: bytes) -> None:
    with pytest.raises(
        VectorError, match=r"not a safetensors file: pickles, .* can run code"
    ) as error:
        file.read(data)
    assert error.value.field == "vector"


def test_a_file_can_begin_like_a_pickle() -> None:
    # The first byte is the low one of the header's length.
    files = (content(description=" " * length) for length in range(256))
    assert file.read(next(data for data in files if data[0] == 0x80)).metadata.method == "by hand"


@pytest.mark.parametrize(
    "data",
    [b"", b"abc", b"\0" * 64, b"\xff" * 64, content()[:-1], content()[:40], content() + b"\0"],
)
def test_what_is_no_safetensors_file(data: bytes) -> None:
    with pytest.raises(VectorError, match="not a safetensors file: ") as error:
        file.read(data)
    assert error.value.field == "vector"


def raw(header: str, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + body


TENSOR = '"layer.0":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
META = json.dumps({"steersman": json.dumps(METADATA)})


@pytest.mark.parametrize(
    "header",
    [
        f'{{"__metadata__":{META},{TENSOR},{TENSOR}}}',
        f'{{"__metadata__":{META},"__metadata__":{META},{TENSOR}}}',
        f'{{"__metadata__":{{"steersman":"{{}}",{META[1:]},{TENSOR}}}',
    ],
)
def test_duplicates_are_refused(header: str) -> None:
    with pytest.raises(VectorError):
        file.read(raw(header, bytes(4)))
    file.read(raw(f'{{"__metadata__":{META},{TENSOR}}}', bytes(4)))


@pytest.mark.parametrize(
    ("tensors", "field", "message"),
    [
        ({"weight": np.ones(2)}, "vector", "tensor 'weight': tensors are named layer.N"),
        ({"layer.01": np.ones(2)}, "vector", "tensor 'layer.01': "),
        ({"layer.-1": np.ones(2)}, "vector", "tensor 'layer.-1': "),
        ({"layer.1\n": np.ones(2)}, "vector", "tensor 'layer.1\\n': "),
        ({"layer.9999999": np.ones(2)}, "vector", "tensor 'layer.9999999': "),
        ({"layer.3": np.ones(2)}, "layers[3]", "tensor layer.3 is F64: use F32, F16 or BF16"),
        ({"layer.3": np.ones(2, np.int32)}, "layers[3]", "tensor layer.3 is I32"),
        (
            {"layer.3": np.ones((1, 2), np.float32)},
            "layers[3]",
            "must be [hidden_size], not [1, 2]",
        ),
        ({"layer.3": np.ones(0, np.float32)}, "layers[3]", "not [0]"),
        (
            {"layer.1": np.ones(2, np.float32), "layer.0": np.ones(3, np.float32)},
            "layers[1]",
            "layer 1 has 2 values, layer 0 has 3",
        ),
        ({"layer.5": np.array([np.nan], np.float16)}, "layers[5]", "layer 5 has a NaN"),
        ({"layer.5": np.array([np.inf], np.float32)}, "layers[5]", "layer 5 has a NaN or infinite"),
    ],
)
def test_wrong_tensors(tensors: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(VectorError, match=re.escape(message)) as error:
        file.read(safetensors(tensors))
    assert error.value.field == field


def test_a_file_without_tensors() -> None:
    with pytest.raises(VectorError, match="no layers"):
        file.read(raw(f'{{"__metadata__":{META}}}', b""))


@pytest.mark.parametrize("others", [{}, {"format": "pt"}])
def test_missing_metadata(others: dict[str, Any]) -> None:
    with pytest.raises(VectorError, match="no metadata: a JSON document is expected") as error:
        file.read(safetensors(metadata=None, **others))
    assert error.value.field == "metadata"


@pytest.mark.parametrize(
    ("metadata", "field", "message"),
    [
        ("no JSON", "metadata", "invalid JSON"),
        ({**METADATA, "strenght": 2}, "metadata.strenght", "unknown metadata: strenght"),
        ({**METADATA, "strength": "2"}, "metadata.strength", "metadata.strength: "),
    ],
)
def test_bad_metadata(metadata: object, field: str, message: str) -> None:
    with pytest.raises(VectorError, match=message) as error:
        file.read(safetensors(metadata=metadata))
    assert error.value.field == field
