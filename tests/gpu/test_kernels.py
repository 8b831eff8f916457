"""The kernels on a GPU: against the references on the CPU, and in CUDA graphs.

Needs torch, triton, pytest and `steersman_kernels` alone:

    PYTHONPATH=kernels python -m pytest tests/gpu
"""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor

from steersman_kernels.gate import (
    CLASSES,
    CLOSED,
    NEVER,
    OPENED,
    ORIGIN,
    ROWS,
    WIDTH,
    Markers,
    gate,
)
from steersman_kernels.project import project
from steersman_kernels.reference import gate_reference
from steersman_kernels.steer import steer

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
]

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
SIZES = (576, 577, 896, 3584, 8192)
BANK_ROWS = 40
VOCABULARY = 50_000


def exact(before: Tensor, bank: Tensor, slot: Tensor, coef: Tensor) -> tuple[Tensor, Tensor]:
    """The sum in float64, and the error that rounding once from float32 may leave."""
    tokens = before.shape[0]
    change = bank.double()[slot[:tokens].long()] * coef[:tokens].double().unsqueeze(1)
    total = before.double() + change
    place = torch.finfo(before.dtype).eps / 2
    below_normal = torch.finfo(before.dtype).smallest_normal * 2**-7
    return total, place * total.abs() + 2**-23 * (before.abs() + change.abs()) + below_normal


def check_steer(
    tokens: int,
    size: int,
    share: float,
    *,
    dtype: torch.dtype = torch.bfloat16,
    bank_dtype: torch.dtype | None = None,
    gap: int = 0,
) -> None:
    torch.manual_seed(tokens + size)
    whole = torch.randn(tokens, size + gap, device="cuda").to(dtype)
    whole[::7] = -0.0
    before = whole.clone()
    bank = torch.randn(3, BANK_ROWS, size, device="cuda").to(bank_dtype or dtype)[1]
    bank[-1] = torch.nan
    slot = torch.randint(0, BANK_ROWS - 1, (tokens + 9,), device="cuda", dtype=torch.int32)
    slot[torch.rand(tokens + 9, device="cuda") >= share] = -1
    coef = torch.randn(tokens + 9, device="cuda")
    steer(whole[:, :size], bank, slot, coef)

    touched = slot[:tokens] >= 0
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(whole[~touched].view(bits), before[~touched].view(bits))
    assert torch.equal(whole[:, size:].contiguous(), before[:, size:].contiguous())
    total, most = exact(before[:, :size], bank, slot, coef)
    error = (whole[:, :size].double() - total).abs()
    assert bool((error[touched] <= most[touched]).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tokens", [1, 33, 4099])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_steer(tokens: int, size: int, share: float, dtype: torch.dtype) -> None:
    check_steer(tokens, size, share, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bank_dtype", DTYPES)
def test_steer_with_a_bank_of_another_type(dtype: torch.dtype, bank_dtype: torch.dtype) -> None:
    check_steer(300, 896, 0.5, dtype=dtype, bank_dtype=bank_dtype)


@pytest.mark.parametrize("gap", [1, 8, 64])
def test_steer_in_strided_rows(gap: int) -> None:
    check_steer(300, 896, 0.5, gap=gap)


def test_steer_no_rows() -> None:
    check_steer(0, 896, 1.0)


def test_steer_beyond_the_reach_of_32_bits() -> None:
    size = 8192
    tokens = 2**31 // size + 8
    if torch.cuda.mem_get_info()[0] < 3 * tokens * size * 2:
        pytest.skip("needs more memory")
    hidden = torch.zeros(tokens, size, device="cuda", dtype=torch.bfloat16)
    bank = torch.ones(2, size, device="cuda", dtype=torch.bfloat16)
    slot = torch.full((tokens,), -1, device="cuda", dtype=torch.int32)
    slot[-3] = 1
    steer(hidden, bank, slot, torch.ones(tokens, device="cuda"))
    assert hidden[-3].eq(1).all()
    assert hidden.count_nonzero() == size


def test_steer_in_a_graph() -> None:
    hidden = torch.randn(256, 896, device="cuda", dtype=torch.bfloat16)
    bank = torch.randn(BANK_ROWS, 896, device="cuda", dtype=torch.bfloat16)
    slot = torch.full((512,), -1, device="cuda", dtype=torch.int32)
    coef = torch.ones(512, device="cuda")
    steer(hidden, bank, slot, coef)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        steer(hidden, bank, slot, coef)
    for row in (-1, 0, 3, -1, 7):
        before = hidden.clone()
        slot[1:200:3] = row
        coef.fill_(row / 2)
        graph.replay()
        rows = torch.zeros(256, device="cuda", dtype=torch.bool)
        rows[1:200:3] = row >= 0
        assert torch.equal(hidden[~rows], before[~rows])
        total, most = exact(before, bank, slot, coef)
        assert bool(((hidden.double() - total).abs() <= most)[rows].all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("columns", [64, 1000, 8192])
@pytest.mark.parametrize("tokens", [0, 1, 300])
def test_project(tokens: int, columns: int, size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(tokens + columns)
    output = torch.randn(tokens, size, device="cuda").to(dtype)
    inputs = torch.randn(tokens, columns + 8, device="cuda").to(dtype)[:, :columns]
    read = torch.randn(3, 4, columns, device="cuda")[1] / columns**0.5
    write = torch.randn(4, size, device="cuda")
    slot = torch.randint(-1, 4, (tokens + 5,), device="cuda", dtype=torch.int32)
    coef = torch.randn(tokens + 5, device="cuda")
    before = output.clone()
    project(output, inputs, read, write, slot, coef)

    touched = slot[:tokens] >= 0
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(output[~touched].view(bits), before[~touched].view(bits))
    chosen = slot[:tokens].clamp(min=0).long()
    products = inputs.double() * read[chosen].double()
    factors = coef[:tokens, None].double() * write[chosen].double()
    total = before.double() + products.sum(1, keepdim=True) * factors
    most = before.double().abs() + (products.abs().sum(1, keepdim=True) * factors).abs()
    place = torch.finfo(dtype).eps / 2
    error = (output.double() - total).abs()
    allowed = place * total.abs() + (columns + 4) * 2**-23 * most
    assert bool((error <= allowed)[touched].all())


def test_project_in_a_graph() -> None:
    output = torch.zeros(64, 896, device="cuda", dtype=torch.bfloat16)
    inputs = torch.ones(64, 512, device="cuda", dtype=torch.bfloat16)
    read, write = torch.ones(2, 512, device="cuda"), torch.ones(2, 896, device="cuda")
    slot = torch.full((64,), -1, device="cuda", dtype=torch.int32)
    coef = torch.ones(64, device="cuda")
    project(output, inputs, read, write, slot, coef)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        project(output, inputs, read, write, slot, coef)
    slot[1::2] = 1
    coef.fill_(0.5)
    graph.replay()
    assert output[::2].eq(0).all()
    assert output[1::2].eq(256).all()


@dataclass
class Step:
    """The arguments of `gate` for one batch."""

    requests: Tensor
    seats: Tensor
    query_start: Tensor
    positions: Tensor
    token_ids: Tensor
    boundary: Tensor
    markers: Markers
    slot: Tensor

    def to(self, device: str) -> "Step":
        tensors = {
            field.name: value.to(device, copy=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)

    def arguments(self) -> list[Tensor | Markers]:
        return [getattr(self, field.name) for field in fields(self)]


def make_step(lengths: list[int], *, seed: int, token_type: torch.dtype = torch.int32) -> Step:
    """A batch on the CPU: every third request unsteered, markers frequent."""
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=random)

    count, tokens = len(lengths), sum(lengths)
    requests = torch.zeros(count + 5, WIDTH, dtype=torch.int32)
    requests[:, ORIGIN] = draw(0, 3000, count + 5)
    requests[:, OPENED] = torch.where(draw(0, 2, count + 5) > 0, draw(0, 3000, count + 5), NEVER)
    requests[:, CLOSED] = NEVER
    requests[:, ROWS : ROWS + CLASSES] = draw(-1, BANK_ROWS, count + 5, CLASSES)
    seats = torch.randperm(count + 5, generator=random)[:count].int()
    seats[::3] = -1
    first = draw(0, 4000, count)
    token_ids = draw(-2, VOCABULARY + 9, tokens)
    token_ids[draw(0, 200, tokens) == 0] = 5
    token_ids[draw(0, 200, tokens) == 0] = 6
    return Step(
        requests=requests,
        seats=seats,
        query_start=torch.tensor([0, *lengths]).cumsum(0).int(),
        positions=torch.cat([first[i] + torch.arange(n) for i, n in enumerate(lengths)]),
        token_ids=token_ids.to(token_type),
        boundary=draw(0, 8, VOCABULARY) == 0,
        markers=Markers(5, 6),
        slot=torch.full((tokens + 100,), 55, dtype=torch.int32),
    )


def assert_same(on_gpu: Step, on_cpu: Step) -> None:
    assert torch.equal(on_gpu.slot.cpu(), on_cpu.slot)
    assert torch.equal(on_gpu.requests.cpu(), on_cpu.requests)


@pytest.mark.parametrize("token_type", [torch.int32, torch.int64])
@pytest.mark.parametrize(
    "lengths",
    [[1] * 256, [1, 0, 8192], [1, 1023, 1024, 1025, 0, 7], [8192]],
    ids=["decode", "prefill", "mixed", "unsteered"],
)
def test_gate(lengths: list[int], token_type: torch.dtype) -> None:
    for seed in range(3):
        step = make_step(lengths, seed=seed, token_type=token_type)
        on_gpu = step.to("cuda")
        gate(*on_gpu.arguments())
        gate_reference(*step.arguments())
        assert_same(on_gpu, step)


def test_gate_without_requests() -> None:
    step = make_step([1], seed=0).to("cuda")
    gate(*replace(step, seats=step.seats[:0]).arguments())
    assert step.slot.eq(-1).all()


def test_gate_in_a_graph() -> None:
    lengths = [1, 900, 0, 1100, 1, 1]
    held = make_step(lengths, seed=0).to("cuda")
    gate(*held.arguments())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gate(*held.arguments())
    for seed in range(1, 4):
        step = make_step(lengths, seed=seed)
        for field in fields(step):
            if isinstance(value := getattr(step, field.name), Tensor):
                getattr(held, field.name).copy_(value)
        graph.replay()
        gate_reference(*step.arguments())
        assert_same(held, step)
