"""Sums over chosen rows: the definition and the loop on a CPU against float64."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steersman_kernels.accumulate import accumulate
from steersman_kernels.reference import accumulate_reference

Accumulate = Callable[..., None]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIDES = 2
BOTH = pytest.mark.parametrize("function", [accumulate_reference, accumulate])


def check(
    function: Accumulate,
    tokens: int,
    size: int,
    *,
    dtype: torch.dtype = torch.float32,
    other: torch.dtype | None = None,
    share: float = 0.6,
    gap: int = 0,
    seed: int = 0,
) -> None:
    """Sums are right to float32; NaN is nowhere read; nothing else changes."""
    random = torch.Generator().manual_seed(seed)

    def stream(dtype: torch.dtype) -> Tensor:
        whole = torch.randn(tokens, size + gap, generator=random).to(dtype)
        whole[:, size:] = torch.nan
        return whole[:, :size]

    hidden = stream(dtype)
    residual = None if other is None else stream(other)
    chosen = torch.rand(tokens, generator=random) < share
    hidden[~chosen] = torch.nan
    rows = chosen.nonzero().squeeze(1)
    weights = torch.rand(SIDES, len(rows), generator=random)
    weights[torch.rand(weights.shape, generator=random) < 0.5] = 0
    before = torch.randn(SIDES, size, generator=random).double()
    sums, norms, squares = before.clone(), torch.ones(2).double(), torch.zeros(2).double()

    function(hidden, residual, rows, weights, sums, (norms, squares))

    exact = hidden[rows].double() + (0 if residual is None else residual[rows].double())
    factors = weights.double()
    close(sums - before, factors @ exact, scale=factors.sum(dim=1, keepdim=True))
    close(norms - 1, factors @ exact.norm(dim=1))
    close(squares, factors @ exact.square().sum(dim=1))


def close(found: Tensor, wanted: Tensor, scale: Tensor | float = 0.0) -> None:
    error = (found - wanted).abs()
    assert bool((error <= 1e-5 * wanted.abs() + 1e-6 * scale + 1e-9).all())


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stream_in_two_parts(function: Accumulate, dtype: torch.dtype) -> None:
    check(function, 300, 192, dtype=dtype, other=dtype)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stream_in_one_part(function: Accumulate, dtype: torch.dtype) -> None:
    check(function, 70, 65, dtype=dtype, gap=7)


@BOTH
def test_parts_of_two_types(function: Accumulate) -> None:
    check(function, 30, 64, dtype=torch.bfloat16, other=torch.float32)


@BOTH
def test_nothing_is_chosen(function: Accumulate) -> None:
    check(function, 9, 16, share=0)


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 3), st.integers(0, 999))
def test_any_shape(tokens: int, size: int, gap: int, seed: int) -> None:
    check(accumulate, tokens, size, other=torch.float32, gap=gap, seed=seed)


@BOTH
def test_no_moments_are_needed(function: Accumulate) -> None:
    hidden, rows = torch.ones(3, 4), torch.tensor([0, 2])
    sums = torch.zeros(SIDES, 4, dtype=torch.float64)
    function(hidden, None, rows, torch.tensor([[1.0, 2.0], [0.0, 5.0]]), sums)
    assert sums.tolist() == [[3.0] * 4, [5.0] * 4]


@BOTH
def test_many_rows_lose_nothing(function: Accumulate) -> None:
    """In float32 alone, what is added late would be cut off."""
    sums = torch.zeros(1, 2, dtype=torch.float64)
    hidden, weights = torch.full((1000, 2), 1.1), torch.ones(1, 1000)
    for _ in range(300):
        function(hidden, None, torch.arange(1000), weights, sums)
    exact = 300_000 * hidden[0].double()
    assert bool(((sums - exact).abs() / exact < 2e-5).all())
