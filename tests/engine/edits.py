"""Edits of the reasoner's own weights, for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from steersman.edits import projection
from steersman.edits.checkpoint import Checkpoint
from steersman.edits.edit import Edit, EditMetadata
from tests.engine.host import HEAD_DIM, HIDDEN, LAYERS, REASONER


def random_edit(
    heads: Mapping[int, Sequence[int]],
    *,
    weight: float = 1.0,
    seed: int = 0,
    model: Path = REASONER,
) -> Edit:
    """An edit of some heads along random directions: {layer: heads}."""
    checkpoint = Checkpoint(model, LAYERS, HIDDEN)
    generator = np.random.default_rng(seed)
    directions, projections = {}, {}
    for layer, chosen in heads.items():
        direction = generator.normal(size=HIDDEN)
        direction /= np.linalg.norm(direction)
        columns = projection.columns(chosen, HEAD_DIM)
        output = checkpoint.weight(layer)[:, columns].double().numpy()
        directions[layer] = direction.astype(np.float32)
        written = directions[layer].astype(np.float64) @ output
        projections[layer] = written.reshape(len(chosen), HEAD_DIM).astype(np.float32)
    metadata = EditMetadata(
        weight=weight,
        heads={layer: tuple(chosen) for layer, chosen in heads.items()},
        head_dim=HEAD_DIM,
        dtype=checkpoint.dtype(0),
        weights={layer: checkpoint.sha256(layer) for layer in heads},
    )
    return Edit(directions, projections, metadata)
