"""The strength of each row: on a CPU and by the kernel; and the curve of the confidence law."""

import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_kernels import governor_kernels
from steersman_kernels import layout as at
from steersman_kernels import strength as module
from steersman_kernels.governor import govern
from steersman_kernels.strength import coefficients, steepness
from tests.unit.kernels import compiled, interpreted
from tests.unit.kernels.requests import BOUNDARY, Asked, Draw, Govern, Words, step, table

INTERPRETED = interpreted(module)
GOVERNOR = interpreted(governor_kernels)


@pytest.mark.parametrize("function", [coefficients, INTERPRETED.coefficients_triton])
@given(data=st.data())
@settings(max_examples=25)
def test_each_row_has_the_strength_of_its_position(
    function: Callable[..., None], data: st.DataObject
) -> None:
    state = table()
    random = Random(data.draw(st.integers(0, 10**6)))
    slots = data.draw(st.permutations([0, 1, 2, -1, -1]))
    wanted: list[float] = []
    positions: list[int] = []
    lengths = [random.choice([0, 1, 1, 7, 150]) for _ in slots]
    for slot, length in zip(slots, lengths, strict=True):
        first = random.randint(0, 100)
        positions += range(first, first + length)
        law = random.choice([0, 1, 2])
        if slot < 0 or not law:
            wanted += [1.0] * length
        if slot < 0:
            continue
        Asked(law=law, base=-2.0).take(state, slot)
        count = random.choice([0, 1, 2, 30, at.SEGMENT_ENDS])
        ends = sorted(random.sample(range(at.SEGMENT_ENDS + 200), count))
        state.ints[slot, at.SEGMENTS] = count
        state.ends[slot, :count] = torch.tensor(ends, dtype=torch.int32)
        state.strengths[slot, :count] = torch.arange(count).float()
        if law:
            for position in range(first, first + length):
                reached = [i for i, end in enumerate(ends) if end <= position]
                wanted.append(float(reached[-1]) if reached else -2.0)
    coef = torch.full((len(wanted) + 2,), 5.0)
    start = torch.tensor([0, *lengths, 99]).cumsum(0).int()
    tensors = torch.tensor(slots, dtype=torch.int32), start, torch.tensor([*positions, 4, 4])
    function(coef, state, *tensors)

    assert coef.tolist() == [*wanted, 1.0, 1.0]


def test_coefficients_without_requests() -> None:
    coef, none = torch.zeros(3), torch.zeros(0, dtype=torch.int32)
    coefficients(coef, table(), none, torch.zeros(1, dtype=torch.int32), torch.zeros(0).long())
    assert coef.eq(1).all()


@pytest.mark.parametrize(("low", "high"), [(0.65, 0.9), (0.0, 0.5), (0.2, 0.97)])
@pytest.mark.parametrize("overshoot", [0.001, 0.01, 0.02])
def test_full_confidence_overshoots_as_asked(low: float, high: float, overshoot: float) -> None:
    k, middle, half = steepness(low, high, overshoot), (low + high) / 2, (high - low) / 2
    assert (1 - math.tanh(k * (1 - middle)) / math.tanh(k * half)) / 2 == pytest.approx(-overshoot)


def test_a_curve_that_cannot_overshoot_is_straight() -> None:
    k = steepness(0.5, 1.0)
    assert math.tanh(k * 0.125) / math.tanh(k * 0.25) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(
    "arguments", [(0.9, 0.9), (0.9, 0.6), (-0.1, 0.5), (0.5, 1.1), (0.5, 0.6, 0.0)]
)
def test_what_has_no_steepness(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="not "):
        steepness(*arguments)


@pytest.mark.parametrize(
    ("function", "written"),
    [
        (govern, coefficients),
        (GOVERNOR.govern_triton, INTERPRETED.coefficients_triton),
    ],
)
@given(data=st.data())
@settings(max_examples=5)
def test_what_is_read_anew_is_steered_as_it_was(
    function: Govern, written: Callable[..., None], data: st.DataObject
) -> None:
    """Also where a request has more segments than there are places for them."""
    state, words = table(), Words()
    law = data.draw(st.sampled_from([at.PROPORTIONAL, at.CONFIDENCE_LAW]))
    Asked(law=law, gain=0.5, integral_gain=0.1).take(state, 0)
    earlier = data.draw(st.sampled_from([0, at.SEGMENT_ENDS - 3, at.SEGMENT_ENDS]))
    state.ints[0, at.SEGMENTS] = earlier
    state.ends[0, :earlier] = torch.arange(earlier)
    state.strengths[0, :earlier] = torch.rand(earlier, generator=torch.Generator().manual_seed(0))
    if earlier:
        state.floats[0, at.STRENGTH] = state.strengths[0, earlier - 1]
    slots, first = torch.zeros(1, dtype=torch.int32), at.SEGMENT_ENDS

    def strengths(begin: int, end: int) -> list[float]:
        coef, start = torch.zeros(end - begin), torch.tensor([0, end - begin], dtype=torch.int32)
        written(coef, state, slots, start, torch.arange(begin, end))
        found: list[float] = coef.tolist()
        return found

    used: list[float] = []
    eighths = st.integers(0, 8).map(lambda number: number / 8)
    draws = st.tuples(st.sampled_from([0, 11, *BOUNDARY]), eighths)
    for place, (token, entropy) in enumerate(
        data.draw(st.lists(draws, min_size=9, max_size=12)), first
    ):
        sure = Draw(0, place, token, entropy, top=1 - entropy)
        step(function, state, words, [sure], Random(place))
        used.append(float(state.floats[0, at.STRENGTH]))
    assert strengths(first, first + len(used)) == used
    assert strengths(0, earlier) == state.strengths[0, :earlier].tolist()


def test_the_kernel_of_coefficients_compiles_for_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    kernel = module._coefficients_kernel
    types = {name: "*i32" for name in kernel.arg_names if name.endswith("_ptr")}
    types |= dict.fromkeys(["coef_ptr", "floats_ptr", "strengths_ptr"], "*fp32")
    types["positions_ptr"] = "*i64"
    constants = {"BLOCK": 128, "BITS": at.SEGMENT_ENDS.bit_length(), "LAYOUT": at.FINGERPRINT}
    assert "ptx" in compiled(kernel, types, constants)
