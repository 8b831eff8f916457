"""Weighted sums of vectors."""

from typing import Any

import numpy as np
import pytest

from steersman.vectors.combine import combine
from steersman.vectors.vector import Vector, VectorError, VectorMetadata

from .made_up import vector


def test_each_layer_is_the_sum_of_those_that_have_it() -> None:
    made = combine([(vector(2.0, layers=(0, 1)), 0.5), (vector(3.0, layers=(1, 2)), -1.0)])

    assert {layer: values[0] for layer, values in made.layers.items()} == {0: 1, 1: -2, 2: -3}


def test_metadata_on_which_all_agree_stay() -> None:
    shared: dict[str, Any] = {"phase": "thinking", "model_digest": "abc"}
    one = vector(at="boundary", strength=0.25, strength_range=(0.0, 1.0), **shared)
    other = vector(at="all", **shared)

    made = combine([(one, 1.0), (other, 2.0)]).metadata

    assert made.model_dump(exclude_defaults=True) == {
        "site": "layer",
        "method": "combination",
        **shared,
        "provenance": {
            "terms": [
                {"factor": 1.0, "digest": one.digest, "method": "by hand", "provenance": None},
                {"factor": 2.0, "digest": other.digest, "method": "by hand", "provenance": None},
            ]
        },
    }


@pytest.mark.parametrize(
    ("other", "factor", "message"),
    [
        (vector(site="attn"), 1.0, "differ in site"),
        (vector(model_digest="other"), 1.0, "differ in model_digest"),
        (
            Vector({0: np.ones(3, np.float32)}, VectorMetadata(site="layer", method="short")),
            1.0,
            "hidden size: 8 and 3",
        ),
        (vector(3e38), 2.0, "layer 0 has a NaN or infinite value"),
        (vector(), float("nan"), "layer 0 has a NaN or infinite value"),
    ],
)
def test_what_cannot_be_combined(other: Vector, factor: float, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        combine([(vector(), 1.0), (other, factor)])


def test_nothing_to_combine() -> None:
    with pytest.raises(VectorError, match="nothing to combine"):
        combine([])
