"""Edits and their files: what they say of themselves, and what is refused."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from steersman.capabilities import Model
from steersman.edits import file
from steersman.edits.edit import Edit, EditError, check
from steersman.vectors.vector import model_digest
from tests.unit.edits import made_up
from tests.unit.edits.made_up import HEAD_DIM, HIDDEN

MODEL = Model(
    names=("m",), architecture="A", hidden_size=HIDDEN, layers=3, vocabulary=50, max_model_len=64
)


@pytest.fixture
def made(tmp_path: Path) -> Edit:
    return made_up.edit(made_up.checkpoint(made_up.directory(tmp_path / "model")))


def rewritten(edit: Edit, **changes: Any) -> bytes:
    """Its file with some metadata changed; None takes a field away."""
    document = json.loads(edit.metadata.write()) | changes
    document = {name: value for name, value in document.items() if value is not None}
    return save(load(file.write(edit)), {"steersman": json.dumps(document)})


def test_round_trip(made: Edit) -> None:
    data = file.write(made)
    again = file.read(data)

    assert again == made
    assert again.digest == made.digest
    assert file.write(again) == data
    assert (again.layers, again.heads, again.hidden_size) == ((0, 2), 3, HIDDEN)
    assert again.parameters == 3 * HEAD_DIM * HIDDEN


def test_the_digest_is_of_what_is_applied(made: Edit) -> None:
    metadata = made.metadata
    same = replace(made, metadata=metadata.model_copy(update={"description": "other"}))
    others = [
        replace(made, metadata=metadata.model_copy(update={"weight": 0.5})),
        replace(made, metadata=metadata.model_copy(update={"dtype": "float32"})),
        replace(made, metadata=metadata.model_copy(update={"heads": {0: (1, 2), 2: (0,)}})),
        replace(made, directions={**made.directions, 0: -made.directions[0]}),
        replace(made, projections={**made.projections, 0: -made.projections[0]}),
    ]

    assert same.digest == made.digest
    assert len({made.digest, *(other.digest for other in others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"weight": "1"}, "metadata.weight"),
        ({"weight": None}, "metadata.weight"),
        ({"heads": {}}, "metadata.heads"),
        ({"heads": {"0": [3, 1], "2": [0]}}, "metadata.heads.0"),
        ({"heads": {"0": [1, 1], "2": [0]}}, "metadata.heads.0"),
        ({"heads": {"0": [1, 3], "2": [-1]}}, "metadata.heads.2.0"),
        ({"head_dim": 0}, "metadata.head_dim"),
        ({"dtype": "int8"}, "metadata.dtype"),
        ({"method": "other"}, "metadata.method"),
        ({"unknown": 1}, "metadata.unknown"),
        ({"weights": {"0": "0" * 64}}, "layers[2]"),
        ({"heads": {"0": [1, 3], "1": [0]}}, "layers[1]"),
        ({"heads": {"0": [1, 3]}}, "layers[2]"),
        ({"heads": {"0": [1], "2": [0]}}, "layers[0]"),
        ({"head_dim": 4}, "layers[0]"),
    ],
)
def test_metadata_that_do_not_fit(made: Edit, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(EditError) as error:
        file.read(rewritten(made, **changes))
    assert error.value.field == field


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("layer.0.direction", np.full(HIDDEN, np.nan, np.float32), "NaN"),
        ("layer.0.direction", np.ones(HIDDEN, np.float32), "must be of length 1"),
        ("layer.0.direction", np.eye(1, HIDDEN, dtype=np.float32), r"must be \[24\]"),
        ("layer.0.projection", np.zeros((2, 3), np.float32), r"\[heads, head_dim\] = \[2, 8\]"),
        ("layer.0.direction", np.zeros(HIDDEN, np.int64), "use F32, F16 or BF16"),
        ("layer.0.other", np.zeros(1, np.float32), "tensors are named"),
        ("layer.7.direction", np.eye(1, HIDDEN, dtype=np.float32)[0], "layer 7 has a direction"),
    ],
)
def test_values_that_do_not_fit(made: Edit, name: str, values: Any, message: str) -> None:
    tensors = load(file.write(made)) | {name: values}
    with pytest.raises(EditError, match=message):
        file.read(save(tensors, {"steersman": made.metadata.write()}))


@pytest.mark.parametrize("data", [b"", b"{}", pickle.dumps({"layer.0.direction": [1.0]})])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(EditError, match="not a safetensors file") as error:
        file.read(data)
    assert error.value.field == "edit"


def test_only_an_edit_of_the_model_is_taken(made: Edit) -> None:
    check(made, MODEL)
    of_it = made.metadata.model_copy(update={"model_digest": model_digest(MODEL)})
    check(replace(made, metadata=of_it), MODEL)
    for model, field in (
        (MODEL.model_copy(update={"hidden_size": 32}), "edit"),
        (MODEL.model_copy(update={"layers": 2}), "layers[2]"),
    ):
        with pytest.raises(EditError) as error:
            check(made, model)
        assert error.value.field == field
    of_another = made.metadata.model_copy(update={"model_digest": "0" * 64})
    with pytest.raises(EditError) as error:
        check(replace(made, metadata=of_another), MODEL)
    assert error.value.field == "metadata.model_digest"
