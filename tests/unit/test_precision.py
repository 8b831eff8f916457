"""Models that run in float32 on a CPU without bfloat16 instructions."""

from pathlib import Path
from typing import Any

import pytest
import torch

from steersman.models.files import ModelFiles
from steersman.precision import Precision, Room, for_plain_cpu
from tests.unit.models.made_up import tensor, write

GIB = 2**30
ROOM = Room(available=16 * GIB, cache=2 * GIB)


def chosen(
    directory: Path, config: dict[str, Any], dtype: torch.dtype = torch.bfloat16, room: Room = ROOM
) -> Precision:
    files = {"model.safetensors": {"a": tensor(2**20, dtype)}}
    write(directory, {"model_type": "llama"} | config, weights=files)
    return for_plain_cpu(ModelFiles(str(directory)), room)


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "bfloat16"}, torch.bfloat16),
        ({"torch_dtype": "bfloat16"}, torch.bfloat16),
        ({"dtype": None, "text_config": {"dtype": "bfloat16"}}, torch.bfloat16),
        ({"dtype": "float32"}, torch.float32),
        ({}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_what_would_be_bfloat16_is_float32(
    tmp_path: Path, config: dict[str, Any], dtype: torch.dtype
) -> None:
    assert chosen(tmp_path, config, dtype) == Precision(
        "float32", "this CPU has no bfloat16 instructions"
    )


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "float16"}, torch.float16),
        ({}, torch.float16),
        ({"dtype": "bfloat16", "quantization_config": {"quant_method": "awq"}}, torch.bfloat16),
    ],
)
def test_what_is_left_alone(tmp_path: Path, config: dict[str, Any], dtype: torch.dtype) -> None:
    assert chosen(tmp_path, config, dtype) == Precision("auto")


def test_memory_must_hold_every_copy_the_cache_and_the_processes(tmp_path: Path) -> None:
    twice = 2 * 2 * 2**20  # the weights in float32
    enough = twice + 3 * GIB + 2 * GIB
    bfloat16 = {"dtype": "bfloat16"}
    assert chosen(tmp_path, bfloat16, room=Room(enough, 3 * GIB)).dtype == "float32"
    short = chosen(tmp_path, bfloat16, room=Room(enough - 1, 3 * GIB))
    assert short.dtype == "auto"
    assert short.reason is not None
    assert "would take 5.0 GiB of memory and 5.0 GiB are free" in short.reason
    assert chosen(tmp_path, bfloat16, room=Room(enough, 3 * GIB, copies=2)).dtype == "auto"


def test_a_model_of_unknown_size_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, {"dtype": "bfloat16"})
    answer = for_plain_cpu(ModelFiles(str(tmp_path)), ROOM)
    assert answer.dtype == "auto"
    assert "--dtype float32" in (answer.reason or "")


def test_of_a_model_that_cannot_be_seen_nothing_is_said() -> None:
    assert for_plain_cpu(ModelFiles("some/model"), ROOM) == Precision("auto")
