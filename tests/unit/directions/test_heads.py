"""Scoring and choosing heads, without a model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steersman.capabilities import Model
from steersman.directions.error import DirectionError
from steersman.directions.heads import Heads, check, choose, contributions, unit_directions
from steersman.vectors.vector import Vector, VectorMetadata
from tests.unit.edits import made_up
from tests.unit.edits.made_up import HEAD_DIM, HEADS, HIDDEN, LAYERS

MODEL = Model(
    names=("m",), architecture="A", hidden_size=2, layers=2, vocabulary=9, max_model_len=9
)


def vector(layers: dict[int, Any], **metadata: Any) -> Vector:
    fields: dict[str, Any] = {"site": "attn", "method": "thinkedit", **metadata}
    return Vector({i: np.float32(v) for i, v in layers.items()}, VectorMetadata(**fields))


def test_a_contribution_is_what_a_head_writes_against_the_direction(tmp_path: Path) -> None:
    checkpoint = made_up.checkpoint(made_up.directory(tmp_path / "model"))
    random = np.random.default_rng(0)
    inputs = random.normal(size=(LAYERS, HEADS, HEAD_DIM))
    units = unit_directions(vector({i: random.normal(size=HIDDEN) for i in range(LAYERS)}))

    found = contributions(inputs, checkpoint, units)

    for layer in range(LAYERS):
        weight = checkpoint.weight(layer).double().numpy()
        for head in range(HEADS):
            written = weight[:, head * HEAD_DIM : (head + 1) * HEAD_DIM] @ inputs[layer, head]
            assert found[layer, head] == pytest.approx(-units[layer] @ written)
        whole = weight @ inputs[layer].ravel()
        assert found[layer].sum() == pytest.approx(-units[layer] @ whole)


def test_heads_of_other_sizes_are_refused(tmp_path: Path) -> None:
    checkpoint = made_up.checkpoint(made_up.directory(tmp_path / "model"))
    with pytest.raises(DirectionError, match="has 32 columns, 4 heads of 9 need 36"):
        contributions(np.zeros((LAYERS, HEADS, HEAD_DIM + 1)), checkpoint, {})


def test_the_largest_are_chosen() -> None:
    table = np.array([[1.0, -5.0, 3.0], [2.0, 3.0, 0.0]])
    assert choose(table, 1) == {0: (2,)}
    assert choose(table, 3) == {0: (2,), 1: (0, 1)}
    with pytest.raises(DirectionError, match="only 4 of 6 contribute") as error:
        choose(table, 5)
    assert error.value.field == "count"


@pytest.mark.parametrize(
    ("changes", "layers", "message"),
    [
        ({"site": "layer"}, 2, "take the .attn file"),
        ({"method": "efficiency"}, 2, "made by 'efficiency'"),
        ({"model_digest": "0" * 64}, 2, "made for a model with digest 000"),
        ({}, 1, "it has 1 layers, the model has 2"),
    ],
)
def test_other_vectors_are_refused(changes: dict[str, Any], layers: int, message: str) -> None:
    check(vector({0: (1, 0), 1: (0, 2)}), MODEL)
    with pytest.raises(DirectionError, match=message) as error:
        check(vector(dict.fromkeys(range(layers), (1, 0)), **changes), MODEL)
    assert error.value.field == "vector"


def test_a_direction_must_have_a_length() -> None:
    with pytest.raises(DirectionError, match="zero at a layer"):
        check(vector({0: (1, 0), 1: (0, 0)}), MODEL)


def test_the_file_round_trips_and_refuses_others() -> None:
    heads = Heads(
        model="m",
        model_digest="0" * 64,
        vector="1" * 64,
        head_dim=2,
        weights={0: "a", 1: "b"},
        contributions={0: (0.5, -0.25), 1: (0.0, 1.5)},
        chosen={1: (1,)},
        provenance={"short": 3},
    )
    assert Heads.read(heads.write()) == heads
    for text, message in (
        ("[]", "not a file of heads"),
        (heads.write().replace('"head_dim": 2', '"head_dim": 0'), "head_dim: "),
    ):
        with pytest.raises(DirectionError, match=message):
            Heads.read(text)
