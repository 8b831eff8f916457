"""Edited rows: the reference, the kernel and the loop on a CPU against float64."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steersman_kernels import project as module
from steersman_kernels.project import project
from steersman_kernels.reference import project_reference
from tests.unit.kernels import bits, compiled, interpreted

Project = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], None]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INTERPRETED = interpreted(module)
ROWS = 4


@dataclass(frozen=True)
class Case:
    """The arguments of `project`; `whole` is the storage that `output` is a strided part of."""

    whole: Tensor
    output: Tensor
    inputs: Tensor
    read: Tensor
    write: Tensor
    bank_rows: Tensor
    coef: Tensor

    def run(self, function: Project) -> None:
        function(self.output, self.inputs, self.read, self.write, self.bank_rows, self.coef)


def make(
    slots: list[int],
    columns: int,
    size: int,
    *,
    dtype: torch.dtype = torch.float32,
    gap: int = 0,
    seed: int = 0,
) -> Case:
    """Random values; negative zeros in the rows to leave, NaN where nothing may be read."""
    random = torch.Generator().manual_seed(seed)
    tokens = len(slots)
    whole = torch.randn(tokens, size + gap, generator=random).to(dtype)
    inputs = torch.randn(tokens, columns + gap, generator=random).to(dtype)[:, :columns]
    read = torch.randn(ROWS, columns + gap, generator=random)[:, :columns]
    write = torch.randn(ROWS, size, generator=random)
    bank_rows = torch.tensor([*slots, 0, -1], dtype=torch.int32)
    coef = torch.randn(tokens + 2, generator=random)
    for row in set(range(ROWS)) - set(slots):
        read[row] = write[row] = torch.nan
    whole[bank_rows[:tokens] < 0] = -0.0
    inputs[bank_rows[:tokens] < 0] = torch.nan
    return Case(whole, whole[:, :size], inputs, read, write, bank_rows, coef)


def check(function: Project, case: Case) -> None:
    """Every edited row is the sum to float32, rounded once; every other bit is as it was."""
    # Triton's interpreter cuts off where a GPU rounds to bfloat16.
    cuts = function is INTERPRETED.project_triton and case.output.dtype == torch.bfloat16
    place = torch.finfo(case.output.dtype).eps / (1 if cuts else 2)
    before = case.whole.clone()
    tokens, size = case.output.shape
    columns = case.inputs.shape[1]
    case.run(function)
    assert torch.equal(bits(case.whole[:, size:]), bits(before[:, size:]))
    for row, bank_rows in enumerate(case.bank_rows[:tokens].tolist()):
        if bank_rows < 0:
            assert torch.equal(bits(case.whole[row]), bits(before[row]))
            continue
        products = case.inputs[row].double() * case.read[bank_rows].double()
        factor, write = case.coef[row].double(), case.write[bank_rows].double()
        wanted = before[row, :size].double() + factor * products.sum() * write
        most = (factor * products.abs().sum() * write).abs() + before[row, :size].double().abs()
        in_float32 = (columns + 4) * 2**-23 * most
        below_normal = torch.finfo(case.output.dtype).smallest_normal * 2**-7
        error = (case.output[row].double() - wanted).abs()
        assert bool((error <= place * wanted.abs() + in_float32 + below_normal).all())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return make(
        draw(st.lists(st.integers(-1, ROWS - 1), max_size=6)),
        draw(st.integers(1, 40)),
        draw(st.integers(1, 40)),
        dtype=draw(st.sampled_from(DTYPES)),
        gap=draw(st.integers(0, 3)),
        seed=draw(st.integers(0, 99)),
    )


@given(cases())
def test_the_reference(case: Case) -> None:
    check(project_reference, case)


@given(cases())
def test_on_a_cpu(case: Case) -> None:
    check(project, case)


@given(cases())
@settings(max_examples=15)
def test_the_kernel(case: Case) -> None:
    check(INTERPRETED.project_triton, case)


@pytest.mark.parametrize("function", [project, INTERPRETED.project_triton])
def test_rows_of_several_blocks(function: Project) -> None:
    check(function, make([1, -1, 3], 2051, 1300, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("output", "rounding"), [("fp32", "fma.rn"), ("bf16", "cvt.rn.bf16"), ("fp16", "cvt.rn.f16")]
)
def test_the_kernel_compiles_for_a_gpu(
    output: str, rounding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    types = {
        "output_ptr": f"*{output}",
        "output_stride": "i32",
        "input_ptr": f"*{output}",
        "input_stride": "i32",
        "read_ptr": "*fp32",
        "read_stride": "i64",
        "write_ptr": "*fp32",
        "write_stride": "i64",
        "bank_rows_ptr": "*i32",
        "coef_ptr": "*fp32",
        "columns": "i32",
        "size": "i32",
    }
    assert rounding in compiled(module._project_kernel, types, {"BLOCK": 1024})["ptx"]
