"""Edits made from heads, and applied to a model directory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from steersman.directions import edit
from steersman.directions.error import DirectionError
from steersman.directions.heads import Heads
from steersman.edits import file
from steersman.edits.checkpoint import Checkpoint
from steersman.edits.edit import EditError
from steersman.vectors.vector import Vector, VectorMetadata
from tests.unit.edits import made_up
from tests.unit.edits.made_up import HEAD_DIM, HEADS, HIDDEN, LAYERS

VECTOR = Vector(
    {i: np.random.default_rng(i).normal(size=HIDDEN).astype(np.float32) for i in range(LAYERS)},
    VectorMetadata(site="attn", method="thinkedit"),
)


def heads(checkpoint: Checkpoint, **changes: Any) -> Heads:
    return Heads(
        **{
            "model": "m",
            "model_digest": "0" * 64,
            "vector": VECTOR.digest,
            "head_dim": HEAD_DIM,
            "weights": {layer: checkpoint.sha256(layer) for layer in range(LAYERS)},
            "contributions": dict.fromkeys(range(LAYERS), (0.0,) * HEADS),
            "chosen": {0: (1, 3), 2: (0,)},
            "provenance": {},
            **changes,
        }
    )


@pytest.fixture(params=[1, 3])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoint:
    return made_up.checkpoint(made_up.directory(tmp_path / "model", shards=request.param))


def test_an_edited_directory(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = edit.make(checkpoint, VECTOR, heads(checkpoint), weight=0.8)
    edit.apply(made, checkpoint, tmp_path / "edited")

    after = made_up.checkpoint(tmp_path / "edited")
    for layer in range(LAYERS):
        exact = checkpoint.weight(layer).double()
        unit = torch.tensor(VECTOR.layers[layer]).double()
        unit /= unit.norm()
        for head in made.metadata.heads.get(layer, ()):
            columns = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
            exact[:, columns] -= 0.8 * torch.outer(unit, unit @ exact[:, columns])
        assert (after.weight(layer).double() - exact).abs().max() < 2**-8 * exact.abs().max()
    changed = {
        name
        for path in checkpoint.directory.glob("*.safetensors")
        for name, tensor in load_file(path).items()
        if not torch.equal(tensor, load_file(tmp_path / "edited" / path.name)[name])
    }
    assert changed == {f"model.layers.{layer}.self_attn.o_proj.weight" for layer in (0, 2)}
    assert (tmp_path / "edited" / "config.json").read_text() == "{}"


def test_the_same_edit_twice_is_the_same_file(checkpoint: Checkpoint) -> None:
    first, second = (
        file.write(edit.make(checkpoint, VECTOR, heads(checkpoint), weight=1.0)) for _ in range(2)
    )
    assert first == second


def test_an_edit_is_applied_once_and_to_its_own_model(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    made = edit.make(checkpoint, VECTOR, heads(checkpoint), weight=1.0)
    edit.apply(made, checkpoint, tmp_path / "once")
    with pytest.raises(EditError, match="applied to this model already"):
        edit.apply(made, made_up.checkpoint(tmp_path / "once"), tmp_path / "twice")
    other = made_up.directory(tmp_path / "other", made_up.tensors(seed=5))
    with pytest.raises(EditError, match="not those that the edit was made from"):
        edit.apply(made, made_up.checkpoint(other), tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


def test_progress_is_told_of_each_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = edit.make(checkpoint, VECTOR, heads(checkpoint), weight=1.0)
    (checkpoint.directory / "control/vectors").mkdir(parents=True)
    (checkpoint.directory / "control/vectors/left-out.safetensors").touch()
    told: list[tuple[str, int, int]] = []
    edit.apply(made, checkpoint, tmp_path / "edited", lambda *step: told.append(step))
    copied = [path for path in (tmp_path / "edited").rglob("*") if path.is_file()]
    assert told == [("copying files", i, len(copied)) for i in range(len(copied) + 1)]


def test_nothing_is_overwritten(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = edit.make(checkpoint, VECTOR, heads(checkpoint), weight=1.0)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "x").touch()
    for out, reason in (
        (taken, "is there already"),
        (checkpoint.directory / "in", "in the model's own directory"),
    ):
        with pytest.raises(DirectionError, match=reason):
            edit.apply(made, checkpoint, out)
    (checkpoint.directory / "consolidated.safetensors").touch()
    with pytest.raises(DirectionError, match="would not be edited"):
        edit.apply(made, checkpoint, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "taken"]


@pytest.mark.parametrize(
    ("changes", "weight", "message"),
    [
        ({"vector": "1" * 64}, 1.0, "chosen by the vector with digest 1111"),
        ({"weights": dict.fromkeys(range(LAYERS), "0" * 64)}, 1.0, "not those that the heads"),
        ({"chosen": {0: (9,)}}, 1.0, r"layer 0 has no heads \[9\]"),
        ({"chosen": {7: (0,)}}, 1.0, "the model has no layer 7"),
        ({"chosen": {}}, 1.0, "no head is chosen"),
        ({}, float("nan"), "must be finite"),
    ],
)
def test_what_does_not_belong_together(
    checkpoint: Checkpoint, changes: dict[str, Any], weight: float, message: str
) -> None:
    with pytest.raises(DirectionError, match=message):
        edit.make(checkpoint, VECTOR, heads(checkpoint, **changes), weight=weight)
