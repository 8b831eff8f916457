import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.errors import ControlError
from steersman.steering.bound import LARGEST, Bound
from steersman.steering.configuration import Term
from steersman.steering.plan import PlannedTerm
from steersman.vectors.vector import Vector, VectorMetadata

METADATA = VectorMetadata(site="layer", method="test")
BOUND = Bound(4.0, {0: 10.0, 1: 100.0}, "bfloat16")


def vector(*layers: list[float], norms: dict[int, float] | None = None) -> Vector:
    metadata = METADATA.model_copy(update={"residual_norms": norms})
    return Vector({i: np.array(v, np.float32) for i, v in enumerate(layers)}, metadata)


X = vector([1.0, 0.0], [1.0, 0.0])
Y = vector([0.0, 1.0], [0.0, 1.0])


def term(vector: Vector, strength: float, **options: object) -> PlannedTerm:
    return PlannedTerm("v", vector, Term(vector.digest, strength, **options))  # type: ignore[arg-type]


def check(*terms: PlannedTerm, bound: Bound = BOUND) -> None:
    bound.check([(item, f"steer[{index}]") for index, item in enumerate(terms)])


def refused(*terms: PlannedTerm, bound: Bound = BOUND) -> ControlError:
    with pytest.raises(ControlError) as caught:
        check(*terms, bound=bound)
    return caught.value


@pytest.mark.parametrize("strength", [40.0, -40.0, 0.0, 1e-300])
def test_what_is_within_the_bound_passes(strength: float) -> None:
    check(term(X, strength))


def test_the_layer_that_is_furthest_beyond_says_what_is_allowed() -> None:
    error = refused(term(X, 50.0))

    assert error.param == "steer[0]"
    assert error.message == (
        "strength 50 adds 5 times the norm of the residual stream, of which this server allows 4 "
        "(--max-steering-norm) at layer 0: -39.9996 to 39.9996 is allowed"
    )
    check(term(X, 39.9996))
    check(term(X, 50.0, layers=(1,)))


@pytest.mark.parametrize("strength", [1e39, -1e39, 3e38, 1.7e308])
@pytest.mark.parametrize("dtype", LARGEST)
def test_what_is_not_finite_in_the_dtype_is_refused_whatever_the_bound(
    strength: float, dtype: str
) -> None:
    error = refused(term(X, strength), bound=Bound(1e300, {}, dtype))

    assert f"is not finite in this model's {dtype}" in error.message


def test_infinities_that_would_cancel_are_refused() -> None:
    assert "not finite" in refused(term(X, 1e39), term(X, -1e39)).message


def test_the_sum_counts_and_not_the_terms() -> None:
    check(term(X, 30.0), term(Y, 25.0))  # at right angles: 39.05
    check(term(X, 500.0), term(X, -490.0))
    error = refused(term(X, 24.0), term(Y, 36.0))

    assert error.param == "steer[1]"  # which has the larger share
    assert "strength 36, with 1 more, adds 4.327 times" in error.message
    assert "-31.9997 to 31.9997 is allowed" in error.message
    check(term(X, 24.0), term(Y, 31.9997))


def test_terms_for_other_tokens_are_no_part_of_the_sum() -> None:
    thinking, answer = term(X, 30.0, phase="thinking"), term(X, 30.0, phase="answer")

    check(thinking, answer)
    assert refused(thinking, term(X, 30.0)).param == "steer[0]"


def test_a_term_that_no_strength_can_save() -> None:
    error = refused(term(X, 41.0), term(Y, 42.0))

    assert "no strength of it is allowed beside the others" in error.message


def test_a_layer_that_was_not_measured_goes_by_the_file() -> None:
    unmeasured = Bound(4.0, {}, "float32")

    assert refused(term(vector([1.0], norms={0: 2.0}), 9.0), bound=unmeasured)
    check(term(vector([1.0]), 9.0), bound=unmeasured)


strengths = st.floats(-1e40, 1e40, allow_nan=False)


@given(st.lists(st.tuples(st.sampled_from([X, Y]), strengths), min_size=1, max_size=4))
def test_what_passes_is_within_the_bound_and_what_is_said_to_be_allowed_passes(
    chosen: list[tuple[Vector, float]],
) -> None:
    terms = [term(one, strength) for one, strength in chosen]
    try:
        check(*terms)
    except ControlError as error:
        allowed = re.search(r": (\S+) to (\S+) is allowed", error.message)
        place = int(error.param[6:-1]) if error.param else -1
        for strength in map(float, allowed.groups() if allowed else ()):
            check(*(term(v, strength if i == place else s) for i, (v, s) in enumerate(chosen)))
    else:
        added = sum(strength * one.layers[0].astype(float) for one, strength in chosen)
        assert np.linalg.norm(added) <= 40 * (1 + 1e-9)
