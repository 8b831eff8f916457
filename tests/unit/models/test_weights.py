"""The size of weights is read from safetensors headers."""

import json
from pathlib import Path

import pytest
import torch

from steersman.models import weights
from tests.unit.models.made_up import tensor, write


def test_bytes_are_counted_by_number_type(tmp_path: Path) -> None:
    tensors = {
        "a": tensor(100),
        "b": tensor(10, torch.float32),
        "c": tensor(6, torch.float16),
        "d": tensor(8, torch.uint8),
    }
    write(tmp_path, {}, weights={"model.safetensors": tensors})
    sizes = weights.in_directory(tmp_path)
    assert sizes == {"BF16": 200, "F32": 40, "F16": 12, "U8": 8}
    assert weights.in_float32(sizes) == 400 + 40 + 24 + 8


def test_files_that_the_index_does_not_name_are_no_part_of_the_model(tmp_path: Path) -> None:
    one, two = {"a": tensor(100)}, {"b": tensor(50)}
    files = {"one.safetensors": one, "two.safetensors": two, "copy.safetensors": one | two}
    write(tmp_path, {}, weights=files)
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weights.in_directory(tmp_path) == {"BF16": 300}
    (tmp_path / "two.safetensors").unlink()  # a download that was cut
    assert weights.in_directory(tmp_path) == {}


def test_a_makers_own_copy_is_not_counted_twice(tmp_path: Path) -> None:
    files = {"model.safetensors": {"a": tensor(100)}, "consolidated.safetensors": {"x": tensor(99)}}
    write(tmp_path, {}, weights=files)
    assert weights.in_directory(tmp_path) == {"BF16": 200}


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 64, b"\x04\0\0\0\0\0\0\0nope", b"\x0a\0\0\0\0\0\0\0" + b'{"a": 123}'],
    ids=["empty", "no header", "no JSON", "no tensor"],
)
def test_a_damaged_file_has_no_size(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert weights.in_directory(tmp_path) == {}


def test_sizes_from_numbers_of_parameters() -> None:
    assert weights.of_counts({"BF16": 10, "F32": 2, "I64": 1, "F8_E4M3": 3}) == {
        "BF16": 20,
        "F32": 8,
        "I64": 8,
        "F8_E4M3": 3,
    }
