"""Edits of the reasoner's own weights, for tests, and what they do to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from steersman.edits import projection
from steersman.edits.checkpoint import Checkpoint
from steersman.edits.edit import Edit, EditMetadata
from steersman.engine.settings import Settings
from steersman.steering.configuration import EditTerm
from tests.engine.host import HEAD_DIM, HIDDEN, LAYERS, REASONER, ROWS, EngineProcess, Job

WITH_EDITS = {"additional_config": Settings(rows=ROWS, edit_rows=2).added_to({})}
QUESTIONS = ("6+9*3-8=?", "5*7-4+1=?")
_CONTINUATION = (339, 198, 24, 9, 18, 28)


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


def distributions(engine: EngineProcess, edit: EditTerm | None) -> np.ndarray:
    """Log-probabilities after the same prompts and the same first tokens: [jobs, vocabulary]."""
    results = engine.run(
        *(
            Job(
                [*engine.encode(question), *_CONTINUATION],
                options={"max_tokens": 1, "logprobs": -1},
                edit=edit,
            )
            for question in QUESTIONS
        )
    )
    return np.array([[r.logprobs[0][token] for token in sorted(r.logprobs[0])] for r in results])
