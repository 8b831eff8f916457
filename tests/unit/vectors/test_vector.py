"""Values of a vector, its digest, and the models that it fits."""

import pickle
import re
from typing import Any

import numpy as np
import pytest

from steersman.vectors.vector import (
    Vector,
    VectorError,
    VectorMetadata,
    check,
    model_digest,
)
from tests.unit.servers import MODEL

from .made_up import METADATA, vector

META = VectorMetadata.model_validate(METADATA)


def test_layers_are_kept_as_read_only_float32_in_order() -> None:
    given = {1: np.arange(3.0), 0: np.array([3, 4, 0], np.float16)}
    made = Vector(given, META)
    assert list(made.layers) == [0, 1]
    assert {values.dtype.name for values in made.layers.values()} == {"float32"}
    assert made.hidden_size == 3
    assert made.norms == {0: 5.0, 1: pytest.approx(5**0.5)}
    with pytest.raises(ValueError, match="read-only"):
        made.layers[0][0] = 1
    given[1][0] = 7
    assert made.layers[1].tolist() == [0, 1, 2]


def test_norms_of_large_values_are_finite() -> None:
    assert Vector({0: np.full(4, 3e38)}, META).norms[0] == pytest.approx(6e38)


def test_a_vector_survives_a_pickle() -> None:
    assert pickle.loads(pickle.dumps(vector())) == vector()


def test_the_digest_covers_what_changes_the_effect() -> None:
    different = [
        vector(),
        vector(2.0),
        vector(layers=(0,)),
        vector(layers=(1,)),
        vector(strength=2.0),
        vector(phase="thinking"),
        vector(at="boundary"),
    ]
    assert len({made.digest for made in different}) == len(different)
    assert all(re.fullmatch("[0-9a-f]{64}", made.digest) for made in different)


@pytest.mark.parametrize(
    "words",
    [
        {"description": "x"},
        {"model": "x"},
        {"residual_norms": {0: 1.0}},
        {"strength_range": (0, 1)},
    ],
)
def test_the_digest_does_not_cover_words_and_advice(words: dict[str, Any]) -> None:
    assert vector(**words).digest == vector().digest
    assert hash(vector(**words)) == hash(vector())
    assert vector(**words) != vector()


def test_the_digest_does_not_depend_on_the_order_of_the_layers() -> None:
    one, two = np.ones(2, np.float32), np.zeros(2, np.float32)
    assert Vector({0: one, 1: two}, META) == Vector({1: two, 0: one}, META)
    assert Vector({0: one, 1: two}, META) != Vector({0: two, 1: one}, META)


@pytest.mark.parametrize(
    ("layers", "field", "message"),
    [
        ({}, "vector", "no layers"),
        ({-1: np.ones(2)}, "layers[-1]", "counted from 0"),
        ({3: np.ones((2, 2))}, "layers[3]", "layer 3 must be [hidden_size], not [2, 2]"),
        ({3: np.float32(1)}, "layers[3]", "not []"),
        ({3: np.ones(0)}, "layers[3]", "not [0]"),
        ({0: np.ones(2), 4: np.ones(3)}, "layers[4]", "layer 4 has 3 values, layer 0 has 2"),
        ({5: np.array([1, np.nan])}, "layers[5]", "layer 5 has a NaN or infinite value"),
        ({5: np.array([1, -np.inf])}, "layers[5]", "layer 5 has a NaN or infinite value"),
        ({5: np.array([1e39])}, "layers[5]", "layer 5 has a NaN or infinite value"),
    ],
)
def test_no_vector(layers: dict[int, Any], field: str, message: str) -> None:
    with pytest.raises(VectorError, match=re.escape(message)) as error:
        Vector(layers, META)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("{", "metadata", "metadata: invalid JSON"),
        ("[]", "metadata", "metadata: "),
        ('{"site": "layer"}', "metadata.method", "metadata.method is required"),
        ('{"method": "x"}', "metadata.site", "metadata.site is required"),
        ('{"site": "head", "method": "x"}', "metadata.site", "metadata.site: "),
        ('{"site": "layer", "method": ""}', "metadata.method", "metadata.method: "),
        ('{"method": "x", "kind": 1, "sort": 2}', "metadata.kind", "unknown metadata: kind, sort"),
        *(
            (f'{{"site": "layer", "method": "x", "{key}": {value}}}', f"metadata.{key}", message)
            for key, value, message in [
                ("strength", '"1"', "metadata.strength: "),
                ("strength", "1e999", "metadata.strength: "),
                ("phase", '"thoughts"', "metadata.phase: "),
                ("at", '"end"', "metadata.at: "),
                ("strength_range", "[2, 1]", "metadata.strength_range: must be low, then high"),
                ("strength_range", "[2]", "metadata.strength_range"),
            ]
        ),
        (
            '{"site": "layer", "method": "x", "residual_norms": {"a": 1}}',
            "metadata.residual_norms.a",
            "metadata.residual_norms.a: ",
        ),
        (
            '{"site": "layer", "method": "x", "residual_norms": {"1": -1}}',
            "metadata.residual_norms.1",
            "metadata.residual_norms.1: ",
        ),
    ],
)
def test_bad_metadata_names_the_key(text: str, field: str, message: str) -> None:
    with pytest.raises(VectorError) as error:
        VectorMetadata.read(text)
    assert error.value.message.startswith(message)
    assert "\n" not in error.value.message
    assert error.value.field is not None
    assert error.value.field.startswith(field)


def test_a_model_digest_covers_the_shape_of_the_model_alone() -> None:
    digest = model_digest(MODEL)
    assert re.fullmatch("[0-9a-f]{64}", digest)
    same = MODEL.model_copy(update={"names": ("other",), "max_model_len": 1})
    assert model_digest(same) == digest
    for name in ("architecture", "hidden_size", "layers", "vocabulary"):
        other = MODEL.model_copy(update={name: "Other" if name == "architecture" else 77})
        assert model_digest(other) != digest


def test_a_vector_that_fits() -> None:
    check(vector(), MODEL)
    check(vector(model="another name", model_digest=model_digest(MODEL)), MODEL)


def test_a_vector_of_another_size_does_not_fit() -> None:
    with pytest.raises(
        VectorError, match="3 values a layer, the model's hidden size is 8"
    ) as error:
        check(Vector({0: np.ones(3, np.float32)}, META), MODEL)
    assert error.value.field == "vector"


def test_a_vector_with_a_layer_too_many_does_not_fit() -> None:
    with pytest.raises(VectorError, match="a layer 2, the model's layers are 0 to 1") as error:
        check(vector(layers=(0, 2)), MODEL)
    assert error.value.field == "layers[2]"


def test_a_vector_of_another_model_does_not_fit() -> None:
    with pytest.raises(VectorError) as error:
        check(vector(model_digest="abc"), MODEL)
    assert error.value.field == "metadata.model_digest"
    assert "abc" in error.value.message
    assert model_digest(MODEL) in error.value.message
