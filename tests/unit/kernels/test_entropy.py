"""The entropy of logits: the reference, the kernel and the loops on a CPU against float64."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steersman_kernels import entropy as module
from steersman_kernels.entropy import entropy, measure, measuring
from steersman_kernels.layout import (
    ENTROPY,
    LSE,
    STATISTICS,
    T_CLOSED_BY,
    T_CONFIDENCE,
    T_ENTROPY,
    T_FORCED,
    T_LOGPROB,
    T_PROCESSED_ENTROPY,
    T_PROCESSED_LOGPROB,
    T_STRENGTH,
    T_TOP,
    TOP,
    TRACK,
)
from steersman_kernels.reference import entropy_reference
from tests.unit.kernels import compiled, interpreted

Entropy = Callable[[Tensor, Tensor], Tensor]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INTERPRETED = interpreted(module)
# The interpreter joins column by column: narrow blocks, and parts of several of them.
INTERPRETED.BLOCK, INTERPRETED._PROGRAMS = 64, 8
ALL = pytest.mark.parametrize("function", [entropy_reference, entropy, INTERPRETED.entropy_triton])


def exact(logits: Tensor) -> Tensor:
    """The statistics of every row in float64.

    `-sum(p log p)` as it is written loses what is far below 1 even in float64; here log p is
    `x - max - log1p(rest)`, with the rest of the mass summed by itself.
    """
    values = logits.double()
    top, place = values.max(dim=1, keepdim=True)
    gap = values - top
    rest = gap.exp().scatter(1, place, 0.0).sum(dim=1, keepdim=True)
    log = gap - rest.log1p()
    entropy = -(log.exp() * log.clamp(min=-1e300)).sum(dim=1)
    return torch.stack([(top + rest.log1p())[:, 0], entropy, 1 / (1 + rest[:, 0])], dim=1)


def check(function: Entropy, logits: Tensor, rows: Tensor | None = None) -> None:
    """Every number is right to 1e-5 of itself, or to the rounding of the logits' own size."""
    before = logits.clone()
    rows = torch.arange(len(logits)) if rows is None else rows
    found = function(logits, rows).double()
    assert torch.equal(logits.view(torch.uint8), before.view(torch.uint8))
    assert found.shape == (len(rows), STATISTICS)
    wanted = exact(logits[rows.long()])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-30)


@st.composite
def some_logits(draw: st.DrawFn) -> Tensor:
    random = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    rows, size, gap = draw(st.integers(0, 4)), draw(st.integers(1, 90)), draw(st.integers(0, 3))
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 10.0]))
    values = torch.randn(rows, size + gap, generator=random) * scale + draw(st.integers(-9, 9))
    share = draw(st.sampled_from([0.0, 0.5, 0.95]))
    masked = torch.rand(rows, size + gap, generator=random) < share
    masked[:, draw(st.integers(0, size - 1))] = False
    return values.masked_fill(masked, -torch.inf).to(draw(st.sampled_from(DTYPES)))[:, :size]


@given(some_logits())
def test_the_reference(logits: Tensor) -> None:
    check_loosely(entropy_reference, logits)


@given(some_logits())
def test_on_a_cpu(logits: Tensor) -> None:
    check_loosely(entropy, logits)


@given(some_logits())
@settings(max_examples=20)
def test_the_kernel(logits: Tensor) -> None:
    check_loosely(INTERPRETED.entropy_triton, logits)


def check_loosely(function: Entropy, logits: Tensor) -> None:
    """As `check`, where cancellation can leave a log-sum-exp that is small by chance."""
    found = function(logits, torch.arange(len(logits))).double()
    torch.testing.assert_close(found, exact(logits), rtol=1e-5, atol=1e-5)


@ALL
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_several_parts(function: Entropy, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    check(function, (torch.randn(2, 2_501, generator=random) * 4).to(dtype))


@ALL
@pytest.mark.parametrize("rows", [[], [2], [4, 0, 0, 3]])
def test_some_rows(function: Entropy, rows: list[int]) -> None:
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(1)) * 3
    logits[1] = torch.nan
    check(function, logits, torch.tensor(rows, dtype=torch.int32))


@ALL
@pytest.mark.parametrize("size", [1, 7, 1024, 5000])
def test_uniform(function: Entropy, size: int) -> None:
    found = function(torch.full((1, size), -2.5), torch.zeros(1, dtype=torch.int64))[0]

    assert found[ENTROPY] == pytest.approx(math.log(size), rel=1e-6, abs=0)
    assert found[LSE] == pytest.approx(math.log(size) - 2.5, rel=1e-6)
    assert found[TOP] == pytest.approx(1 / size, rel=1e-6)


@ALL
@pytest.mark.parametrize("gap", [5.0, 20.0, 60.0, 85.0, math.inf])
def test_nearly_all_the_mass_on_one_token(function: Entropy, gap: float) -> None:
    """Naive float32 sums see an entropy of 0 there."""
    logits = torch.full((2, 3000), -gap)
    logits[0, 0] = logits[1, 2999] = 0.0
    check(function, logits)


@ALL
@pytest.mark.parametrize("offset", [-3e4, 3e4, 1e30])
def test_huge_magnitudes(function: Entropy, offset: float) -> None:
    random = torch.Generator().manual_seed(2)
    check(function, torch.randn(2, 2000, generator=random) * 5 + offset)
    logits = torch.tensor([[offset, -abs(offset), 0.0, -torch.inf]])
    check(function, logits)


@ALL
def test_masked_from_the_start(function: Entropy) -> None:
    logits = torch.full((1, 4000), -torch.inf)
    logits[0, 3990:] = torch.arange(10.0)
    check(function, logits)


@ALL
@pytest.mark.parametrize("sign", [1, -1])
def test_no_number_gives_no_number(function: Entropy, sign: int) -> None:
    logits = torch.zeros(2, 50)
    logits[0, 20] = sign * torch.nan

    found = function(logits, torch.arange(2))

    assert found[0].isnan().all()
    assert found[1].isfinite().all()


@pytest.mark.parametrize("token_dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_measured_are_the_tokens_that_were_drawn(
    dtype: torch.dtype, token_dtype: torch.dtype
) -> None:
    random = torch.Generator().manual_seed(3)
    logits = (torch.randn(4, 500, generator=random) * 3).to(dtype)
    tokens = torch.tensor([7, 8, 499, 500, -1, 9], dtype=token_dtype)

    found = measure(logits, torch.tensor([3, 0, 1, 1]), tokens, torch.tensor([2, 0, 3, 4]))

    assert found.shape == (4, TRACK)
    wanted = exact(logits[[3, 0, 1, 1]])
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found[:, T_ENTROPY].double(), wanted[:, ENTROPY], **close)
    torch.testing.assert_close(found[:, T_TOP].double(), wanted[:, TOP], **close)
    logprobs = logits.double().log_softmax(dim=1)[[3, 0], [499, 7]]
    torch.testing.assert_close(found[:2, T_LOGPROB].double(), logprobs, **close)
    assert found[2:, T_LOGPROB].isnan().all()
    assert found[:, [T_PROCESSED_ENTROPY, T_PROCESSED_LOGPROB, T_CONFIDENCE]].isnan().all()
    assert (found[:, [T_STRENGTH, T_CLOSED_BY, T_FORCED]] == 0).all()


def test_the_same_rows_are_measured_step_after_step() -> None:
    random = torch.Generator().manual_seed(4)
    logit_rows, token_rows = torch.tensor([2, 0]), torch.tensor([0, 1], dtype=torch.int32)
    measured = measuring(logit_rows, token_rows)
    for size in (500, 90):  # the logits of a step are elsewhere than those of the last
        logits = torch.randn(3, size, generator=random)
        tokens = torch.randint(0, size, (2,), generator=random)
        wanted = measure(logits, logit_rows, tokens, token_rows)
        torch.testing.assert_close(measured(logits, tokens), wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_kernels_compile_for_a_gpu(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    types = {
        "logits_ptr": f"*{dtype}",
        "stride": "i32",
        "rows_ptr": "*i32",
        "parts_ptr": "*fp32",
        "size": "i32",
        "width": "i32",
    }
    assert "ex2.approx" in compiled(module._parts_kernel, types, {"BLOCK": 1024})["ptx"]
    types = {"parts_ptr": "*fp32", "out_ptr": "*fp32", "parts": "i32"}
    assert "ex2.approx" in compiled(module._whole_kernel, types, {"BLOCK": 64})["ptx"]
