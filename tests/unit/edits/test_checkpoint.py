"""Model directories: where output weights are, and which cannot be edited."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from steersman.edits.checkpoint import Checkpoint
from steersman.edits.edit import EditError
from tests.unit.edits import made_up
from tests.unit.edits.made_up import COLUMNS, HIDDEN, LAYERS


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_output_weights_are_found(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    weights = made_up.tensors(dtype)
    checkpoint = made_up.checkpoint(made_up.directory(tmp_path / "m", weights, shards=shards))

    for layer in range(LAYERS):
        stored = weights[f"model.layers.{layer}.self_attn.o_proj.weight"]
        assert torch.equal(checkpoint.weight(layer), stored)
        content = stored.view(torch.uint8).numpy().tobytes()
        assert checkpoint.sha256(layer) == hashlib.sha256(content).hexdigest()
        assert checkpoint.columns(layer) == COLUMNS
        assert f"torch.{checkpoint.dtype(layer)}" == str(dtype)
    assert checkpoint.parameters == sum(tensor.numel() for tensor in weights.values())


def test_names_of_other_architectures(tmp_path: Path) -> None:
    weights = {
        f"transformer.h.{layer}.attn.out_proj.weight": torch.zeros(HIDDEN, COLUMNS)
        for layer in range(LAYERS)
    }
    # A tower that sees has layers of its own.
    weights |= {
        f"visual.blocks.{layer}.attn.out_proj.weight": torch.zeros(8, 8) for layer in range(2)
    }
    assert made_up.checkpoint(made_up.directory(tmp_path / "m", weights)).columns(2) == COLUMNS


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    weights = made_up.tensors()
    weights["model.layers.1.self_attn.o_proj.weight_scale"] = torch.ones(1)
    with pytest.raises(EditError, match=r"quantised \(model.layers.1.self_attn.o_proj"):
        made_up.checkpoint(made_up.directory(tmp_path / "scaled", weights))

    eight = {name: value.to(torch.float8_e4m3fn) for name, value in made_up.tensors().items()}
    with pytest.raises(EditError, match="only plain BF16, F16 and F32"):
        made_up.checkpoint(made_up.directory(tmp_path / "eight", eight))


def test_directories_that_hold_no_such_weights(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EditError, match="no safetensors files"):
        made_up.checkpoint(tmp_path / "empty")

    (tmp_path / "empty" / "model.safetensors").write_bytes(b"no")
    with pytest.raises(EditError, match="not a safetensors file"):
        made_up.checkpoint(tmp_path / "empty")

    model = made_up.directory(tmp_path / "model")
    with pytest.raises(EditError, match="for each of 4 layers is needed"):
        Checkpoint(model, LAYERS + 1, HIDDEN)
    with pytest.raises(EditError, match="hidden_size = 25"):
        Checkpoint(model, LAYERS, HIDDEN + 1)

    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": []}))
    with pytest.raises(EditError, match="not an index of weights"):
        made_up.checkpoint(model)

    (tmp_path / "two").mkdir()
    both = made_up.tensors() | {
        name.replace("model.", "other."): tensor for name, tensor in made_up.tensors().items()
    }
    save_file(both, tmp_path / "two" / "model.safetensors")
    with pytest.raises(EditError, match="found: model"):
        made_up.checkpoint(tmp_path / "two")
