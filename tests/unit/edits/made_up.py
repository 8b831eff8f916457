"""A small model directory, and edits of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from steersman.edits import projection
from steersman.edits.checkpoint import Checkpoint
from steersman.edits.edit import Edit, EditMetadata

# Grouped-query attention whose heads are wider together than the residual stream.
LAYERS, HIDDEN, HEADS, HEAD_DIM = 3, 24, 4, 8
COLUMNS = HEADS * HEAD_DIM


def tensors(dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> dict[str, torch.Tensor]:
    """The weights of the model, by their usual names."""
    random = torch.Generator().manual_seed(seed)
    found = {"model.embed_tokens.weight": torch.randn(50, HIDDEN, generator=random).to(dtype)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}.self_attn"
        found[f"{name}.o_proj.weight"] = torch.randn(HIDDEN, COLUMNS, generator=random).to(dtype)
        found[f"{name}.q_proj.weight"] = torch.randn(COLUMNS, HIDDEN, generator=random).to(dtype)
    return found


def directory(
    path: Path, weights: Mapping[str, torch.Tensor] | None = None, *, shards: int = 1
) -> Path:
    """Write a model directory."""
    path.mkdir(parents=True)
    weights = tensors() if weights is None else weights
    (path / "config.json").write_text("{}")
    if shards == 1:
        save_file(dict(weights), path / "model.safetensors")
        return path
    names = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(weights)}
    for file in set(names.values()):
        save_file({n: weights[n] for n in names if names[n] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return path


def checkpoint(path: Path) -> Checkpoint:
    return Checkpoint(path, LAYERS, HIDDEN)


def edit(
    made_from: Checkpoint,
    heads: Mapping[int, Sequence[int]] = {0: (1, 3), 2: (0,)},
    seed: int = 0,
    **metadata: Any,
) -> Edit:
    """An edit of heads along random directions."""
    random = np.random.default_rng(seed)
    directions, projections = {}, {}
    for layer, chosen in heads.items():
        values = random.normal(size=HIDDEN)
        directions[layer] = (values / np.linalg.norm(values)).astype(np.float32)
        columns = projection.columns(chosen, HEAD_DIM)
        weight = made_from.weight(layer)[:, columns].double().numpy()
        projections[layer] = (directions[layer] @ weight).reshape(len(chosen), HEAD_DIM)
    return Edit(
        directions,
        {layer: values.astype(np.float32) for layer, values in projections.items()},
        EditMetadata(
            **{
                "weight": 1.0,
                "heads": {layer: tuple(chosen) for layer, chosen in heads.items()},
                "head_dim": HEAD_DIM,
                "dtype": made_from.dtype(0),
                "weights": {layer: made_from.sha256(layer) for layer in heads},
                **metadata,
            }
        ),
    )
