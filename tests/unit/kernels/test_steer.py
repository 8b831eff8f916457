"""Steering rows: the reference, the kernel and the loop on a CPU against float64."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steersman_kernels import steer as module
from steersman_kernels.reference import steer_reference
from steersman_kernels.steer import steer
from tests.unit.kernels import bits, compiled, interpreted

Steer = Callable[[Tensor, Tensor, Tensor, Tensor], None]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INTERPRETED = interpreted(module)


@dataclass(frozen=True)
class Case:
    """The arguments of `steer`; `whole` is the storage that `hidden` is a strided part of."""

    whole: Tensor
    hidden: Tensor
    bank: Tensor
    bank_rows: Tensor
    coef: Tensor


def make(
    tokens: int,
    size: int,
    slots: list[int],
    *,
    dtype: torch.dtype = torch.float32,
    bank_dtype: torch.dtype | None = None,
    gap: int = 0,
    ones: bool = False,
    seed: int = 0,
) -> Case:
    """Random values; negative zeros in the rows to leave, NaN in the bank rows to leave."""
    random = torch.Generator().manual_seed(seed)
    rows = 5
    whole = torch.randn(tokens, size + gap, generator=random).to(dtype)
    hidden = whole[:, :size]
    layers = torch.randn(3, rows, size + gap, generator=random).to(bank_dtype or dtype)
    bank = layers[1, :, :size]
    bank_rows = torch.tensor([*slots[:tokens], 0, 2, -1], dtype=torch.int32)
    coef = torch.randn(tokens + 3, generator=random)
    if ones:
        coef.fill_(1.0)
    for row in range(rows):
        if row not in slots[:tokens]:
            bank[row] = torch.nan
    hidden[bank_rows[:tokens] < 0] = -0.0
    coef[:tokens][bank_rows[:tokens] < 0] = torch.nan
    return Case(whole, hidden, bank, bank_rows, coef)


def check(run: Steer, case: Case) -> None:
    """Every steered row is the exact sum, rounded once; every other bit is as it was."""
    # Triton's interpreter cuts off where a GPU rounds to bfloat16.
    cuts = run is INTERPRETED.steer_triton and case.hidden.dtype == torch.bfloat16
    place = torch.finfo(case.hidden.dtype).eps / (1 if cuts else 2)
    before = case.whole.clone()
    size = case.hidden.shape[1]
    run(case.hidden, case.bank, case.bank_rows, case.coef)
    assert torch.equal(bits(case.whole[:, size:]), bits(before[:, size:]))
    for row, bank_rows in enumerate(case.bank_rows[: case.hidden.shape[0]].tolist()):
        if bank_rows < 0:
            assert torch.equal(bits(case.whole[row]), bits(before[row]))
            continue
        old = before[row, :size].double()
        change = case.bank[bank_rows].double() * case.coef[row].double()
        error = (case.hidden[row].double() - (old + change)).abs()
        in_float32 = 2**-23 * (old.abs() + change.abs())
        below_normal = torch.finfo(case.hidden.dtype).smallest_normal * 2**-7
        assert bool((error <= place * (old + change).abs() + in_float32 + below_normal).all())


@st.composite
def cases(draw: st.DrawFn, most: int) -> Case:
    tokens = draw(st.integers(0, 6))
    return make(
        tokens,
        draw(st.integers(1, most)),
        draw(st.lists(st.integers(-1, 4), min_size=tokens, max_size=tokens)),
        dtype=draw(st.sampled_from(DTYPES)),
        bank_dtype=draw(st.sampled_from(DTYPES)),
        gap=draw(st.integers(0, 3)),
        ones=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


@given(cases(40))
def test_the_reference(case: Case) -> None:
    check(steer_reference, case)


@given(cases(40))
def test_on_a_cpu(case: Case) -> None:
    check(steer, case)


@given(cases(40))
@settings(max_examples=50)
def test_the_kernel(case: Case) -> None:
    check(INTERPRETED.steer_triton, case)


def test_the_kernel_is_interpreted() -> None:
    assert type(INTERPRETED._steer_kernel).__name__ == "InterpretedFunction"
    assert type(module._steer_kernel).__name__ == "JITFunction"


@pytest.mark.parametrize("run", [steer, INTERPRETED.steer_triton])
def test_a_row_of_several_blocks(run: Steer) -> None:
    check(run, make(3, 4101, [1, -1, 1], dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_number_stays_none(dtype: torch.dtype) -> None:
    case = make(2, 70, [1, 1], dtype=dtype)
    case.hidden[0] = torch.nan
    case.hidden[1] = torch.finfo(dtype).max
    case.bank[1] = torch.finfo(dtype).max
    case.coef[:2] = 1

    steer(case.hidden, case.bank, case.bank_rows, case.coef)

    assert case.hidden[0].isnan().all()
    assert case.hidden[1].eq(torch.inf).all()


@pytest.mark.parametrize("bank", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("hidden", "rounding"), [("fp32", "fma.rn"), ("bf16", "cvt.rn.bf16"), ("fp16", "cvt.rn.f16")]
)
def test_the_kernel_compiles_for_a_gpu(
    hidden: str, rounding: str, bank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    types = {
        "hidden_ptr": f"*{hidden}",
        "hidden_stride": "i32",
        "bank_ptr": f"*{bank}",
        "bank_stride": "i64",
        "bank_rows_ptr": "*i32",
        "coef_ptr": "*fp32",
        "size": "i32",
    }
    assert rounding in compiled(module._steer_kernel, types, {"BLOCK": 1024})["ptx"]
