"""The kernels on a GPU: against float64 or the loops on the CPU, and in CUDA graphs.

Needs torch, triton, numba, pytest and `steersman_kernels` alone:

    PYTHONPATH=kernels python -m pytest tests/gpu
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.entropy import entropy, measure, measuring
from steersman_kernels.gate import gate
from steersman_kernels.governor import State, Step, govern
from steersman_kernels.layout import NEVER
from steersman_kernels.processed import confidence, measure_processed
from steersman_kernels.project import project
from steersman_kernels.reference import entropy_reference
from steersman_kernels.steer import steer
from steersman_kernels.stops import forbid_stops
from steersman_kernels.strength import coefficients
from steersman_kernels.vocabulary import Vocabulary

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
]

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
SIZES = (576, 577, 896, 3584, 8192)
BANK_ROWS = 40
VOCABULARY = 50_000
CLASSES = len(at.CLASSES)


def exact(before: Tensor, bank: Tensor, bank_rows: Tensor, coef: Tensor) -> tuple[Tensor, Tensor]:
    """The sum in float64, and the error that rounding once from float32 may leave."""
    tokens = before.shape[0]
    change = bank.double()[bank_rows[:tokens].long()] * coef[:tokens].double().unsqueeze(1)
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
    bank_rows = torch.randint(0, BANK_ROWS - 1, (tokens + 9,), device="cuda", dtype=torch.int32)
    bank_rows[torch.rand(tokens + 9, device="cuda") >= share] = -1
    coef = torch.randn(tokens + 9, device="cuda")
    steer(whole[:, :size], bank, bank_rows, coef)

    touched = bank_rows[:tokens] >= 0
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(whole[~touched].view(bits), before[~touched].view(bits))
    assert torch.equal(whole[:, size:].contiguous(), before[:, size:].contiguous())
    total, most = exact(before[:, :size], bank, bank_rows, coef)
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
    bank_rows = torch.full((tokens,), -1, device="cuda", dtype=torch.int32)
    bank_rows[-3] = 1
    steer(hidden, bank, bank_rows, torch.ones(tokens, device="cuda"))
    assert hidden[-3].eq(1).all()
    assert hidden.count_nonzero() == size


def test_steer_in_a_graph() -> None:
    hidden = torch.randn(256, 896, device="cuda", dtype=torch.bfloat16)
    bank = torch.randn(BANK_ROWS, 896, device="cuda", dtype=torch.bfloat16)
    bank_rows = torch.full((512,), -1, device="cuda", dtype=torch.int32)
    coef = torch.ones(512, device="cuda")
    steer(hidden, bank, bank_rows, coef)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        steer(hidden, bank, bank_rows, coef)
    for row in (-1, 0, 3, -1, 7):
        before = hidden.clone()
        bank_rows[1:200:3] = row
        coef.fill_(row / 2)
        graph.replay()
        rows = torch.zeros(256, device="cuda", dtype=torch.bool)
        rows[1:200:3] = row >= 0
        assert torch.equal(hidden[~rows], before[~rows])
        total, most = exact(before, bank, bank_rows, coef)
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
    bank_rows = torch.randint(-1, 4, (tokens + 5,), device="cuda", dtype=torch.int32)
    coef = torch.randn(tokens + 5, device="cuda")
    before = output.clone()
    project(output, inputs, read, write, bank_rows, coef)

    touched = bank_rows[:tokens] >= 0
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(output[~touched].view(bits), before[~touched].view(bits))
    chosen = bank_rows[:tokens].clamp(min=0).long()
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
    bank_rows = torch.full((64,), -1, device="cuda", dtype=torch.int32)
    coef = torch.ones(64, device="cuda")
    project(output, inputs, read, write, bank_rows, coef)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        project(output, inputs, read, write, bank_rows, coef)
    bank_rows[1::2] = 1
    coef.fill_(0.5)
    graph.replay()
    assert output[::2].eq(0).all()
    assert output[1::2].eq(256).all()


@dataclass
class Tokens:
    """The arguments of `gate` for one batch."""

    requests: Tensor
    slots: Tensor
    query_start: Tensor
    positions: Tensor
    token_ids: Tensor
    vocabulary: Vocabulary
    bank_rows: Tensor

    def to(self, device: str) -> "Tokens":
        tensors = {
            field.name: value.to(device, copy=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, vocabulary=self.vocabulary.to(device), **tensors)

    def arguments(self) -> list[Tensor | Vocabulary]:
        return [getattr(self, field.name) for field in fields(self)]


def make_step(lengths: list[int], *, seed: int, token_type: torch.dtype = torch.int32) -> Tokens:
    """A batch on the CPU: every third request unsteered, markers frequent."""
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=random)

    count, tokens = len(lengths), sum(lengths)
    requests = torch.zeros(count + 5, at.WIDTH, dtype=torch.int32)
    requests[:, at.ORIGIN] = draw(0, 3000, count + 5)
    requests[:, at.OPENED] = torch.where(draw(0, 2, count + 5) > 0, draw(0, 3000, count + 5), NEVER)
    requests[:, at.CLOSED] = NEVER
    requests[:, at.ROWS : at.ROWS + CLASSES] = draw(-1, BANK_ROWS, count + 5, CLASSES)
    slots = torch.randperm(count + 5, generator=random)[:count].int()
    slots[::3] = -1
    first = draw(0, 4000, count)
    token_ids = draw(-2, VOCABULARY + 9, tokens)
    token_ids[draw(0, 200, tokens) == 0] = 5
    token_ids[draw(0, 200, tokens) == 0] = 6
    token_ids[draw(0, 900, tokens) == 0] = 7
    requests[:, at.RECENT :] = draw(4, 9, count + 5, at.WIDTH - at.RECENT)
    markers = Vocabulary.of([5], [6]) if seed % 2 else Vocabulary.of([5, 6], [6, 5, 5], [7])
    return Tokens(
        requests=requests,
        slots=slots,
        query_start=torch.tensor([0, *lengths]).cumsum(0).int(),
        positions=torch.cat([first[i] + torch.arange(n) for i, n in enumerate(lengths)]),
        token_ids=token_ids.to(token_type),
        vocabulary=markers._replace(boundary=draw(0, 8, VOCABULARY) == 0),
        bank_rows=torch.full((tokens + 100,), 55, dtype=torch.int32),
    )


def assert_same(on_gpu: Tokens, on_cpu: Tokens) -> None:
    assert torch.equal(on_gpu.bank_rows.cpu(), on_cpu.bank_rows)
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
        gate(*step.arguments())
        assert_same(on_gpu, step)


def test_gate_without_requests() -> None:
    step = make_step([1], seed=0).to("cuda")
    gate(*replace(step, slots=step.slots[:0]).arguments())
    assert step.bank_rows.eq(-1).all()


def test_gate_in_a_graph() -> None:
    lengths = [1, 900, 0, 1100, 1, 1]
    held = make_step(lengths, seed=0).to("cuda")
    gate(*held.arguments())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gate(*held.arguments())
    for seed in range(2, 8, 2):  # of the same markers, whose lengths the graph holds
        step = make_step(lengths, seed=seed)
        for field in fields(step):
            if isinstance(value := getattr(step, field.name), Tensor):
                getattr(held, field.name).copy_(value)
        held.vocabulary.boundary.copy_(step.vocabulary.boundary)
        graph.replay()
        gate(*step.arguments())
        assert_same(held, step)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 33, 1024])
@pytest.mark.parametrize("size", [1, 1000, 49_152, 151_936])
def test_entropy(size: int, count: int, dtype: torch.dtype) -> None:
    torch.manual_seed(size + count)
    logits = (torch.randn(40, size + 8, device="cuda") * 4).to(dtype)[:, :size]
    logits[::3, 1:] = logits[::3, 1:].masked_fill(
        torch.rand(14, size - 1, device="cuda") < 0.9, -torch.inf
    )
    logits[::5, 0] = 60.0
    rows = torch.randint(0, 40, (count,), device="cuda")
    found = entropy(logits, rows)
    values = logits.double()
    top, place = values.max(dim=1, keepdim=True)
    gap = values - top
    rest = gap.exp().scatter(1, place, 0.0).sum(dim=1, keepdim=True)
    log = gap - rest.log1p()
    nats = -(log.exp() * log.clamp(min=-1e300)).sum(dim=1)
    wanted = torch.stack([(top + rest.log1p())[:, 0], nats, 1 / (1 + rest[:, 0])], dim=1)
    torch.testing.assert_close(found.double(), wanted[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_measured_are_the_tokens_that_were_drawn(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(40, 50_000, device="cuda") * 4).to(dtype)
    logit_rows, token_rows = (torch.randperm(40, device="cuda")[:33] for _ in range(2))
    tokens = torch.randint(0, 50_000, (40,), device="cuda")
    tokens[:2] = torch.tensor([-1, 50_000])

    found = measuring(logit_rows, token_rows)(logits, tokens)

    wanted = measure(logits.cpu(), logit_rows.cpu(), tokens.cpu(), token_rows.cpu())
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_entropy_in_a_graph() -> None:
    logits = torch.randn(16, 50_000, device="cuda", dtype=torch.bfloat16)
    rows = torch.arange(16, device="cuda")
    entropy(logits, rows)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = entropy(logits, rows)
    for seed in range(3):
        torch.manual_seed(seed)
        logits.normal_(0, 3)
        rows.random_(0, 16)
        graph.replay()
        wanted = entropy_reference(logits.cpu(), rows.cpu())
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)


def moved(tensors: State | Vocabulary | Step, device: str) -> Any:
    return type(tensors)(*(tensor.to(device, copy=True) for tensor in tensors))


WORDS = Vocabulary.of(
    [1, 1], [2, 3], [8], [4, 2, 3], bytes(int(token % 4 == 0) for token in range(VOCABULARY))
)


def make_state(capacity: int, *, seed: int) -> State:
    """Requests on the CPU, each anywhere in its response; every decision is near for some."""
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape or (capacity,), generator=random, dtype=torch.int32)

    def often(value: Tensor | int, otherwise: Tensor | int) -> Tensor:
        return torch.where(draw(0, 3) > 0, value, otherwise).int()

    state = State.empty(capacity)
    ints, floats = state.ints, state.floats
    ints[:, at.KNOWN] = often(0, 1000)
    ints[:, at.THOUGHT] = often(draw(0, 400), 0)
    ints[:, at.STOPS] = draw(0, 4)
    ints[:, at.BUDGET] = often(NEVER, ints[:, at.THOUGHT] + draw(0, 5) - 2)
    ints[:, at.GRACE] = draw(0, 4)
    ints[:, at.MINIMUM] = often(0, 200)
    ints[:, at.LATEST] = often(NEVER, draw(400, 600))
    ints[:, at.LOOP] = draw(0, 2)
    ints[:, at.WINDOW] = often(draw(0, at.WINDOW_TOKENS + 1), 0)
    ints[:, at.NUDGES] = draw(0, at.NUDGE_TOKENS + 1)
    ints[:, at.LAW] = draw(0, 3)
    ints[:, at.GOVERNED] = often(1, 0)
    ints[:, at.PHASE] = often(at.THINKING, draw(0, 3))
    forced = (ints[:, at.PHASE] == at.THINKING) & (draw(0, 4) == 0)
    ints[:, at.SEQUENCE] = torch.where(forced, at.CLOSING, 0)
    ints[:, at.FORCED] = torch.where(forced, draw(1, 3), 0)
    ints[:, at.MIN_ANSWER] = 2
    ints[:, at.ANSWERED] = draw(0, 4)
    ints[:, at.ENDED] = draw(0, 2)
    ints[:, at.SEEN] = ints[:, at.THOUGHT] + often(draw(0, 9), draw(0, 2))
    ints[:, at.SEGMENT] = draw(0, 3)
    ints[:, at.SEGMENTS] = often(draw(0, 9), draw(at.SEGMENT_ENDS - 2, at.SEGMENT_ENDS + 1))
    floats.copy_(torch.rand(capacity, at.FLOATS, generator=random))
    floats[:, at.LOW], floats[:, at.CONFIDENCE_LOW] = -0.3, 0.4
    floats[:, at.HIGH], floats[:, at.CONFIDENCE_HIGH] = 0.9, 0.7
    floats[::2, at.CONFIDENCE] = torch.nan
    # Sums of such entropies are exact in any order, and no mean of them is the bound.
    floats[:, at.EXIT_BELOW] = 0.5137
    state.window.copy_(draw(0, 9, capacity, at.WINDOW_TOKENS) / 8)
    state.window[::2].clamp_(max=0.5)
    state.recent.copy_(draw(0, 8, capacity, at.HISTORY))
    state.runs.copy_(draw(0, 40, capacity, at.HISTORY) * (draw(0, 4, capacity, 1) == 0))
    state.stops[:, :3] = torch.tensor([5, 6, 7])
    state.nudge.copy_(draw(8, VOCABULARY, capacity, at.NUDGE_TOKENS))
    state.ends.copy_(draw(0, 500, capacity, at.SEGMENT_ENDS).sort(dim=1).values)
    state.strengths.copy_(torch.rand(capacity, at.SEGMENT_ENDS, generator=random))
    return state


def make_drawn(
    count: int, *, seed: int, capacity: int, token_type: torch.dtype, dtype: torch.dtype
) -> Step:
    """The watched requests of a step on the CPU, markers and stops frequent."""
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=random)

    sampled = torch.where(
        draw(0, 2, count + 9) > 0, draw(0, 9, count + 9), draw(0, 2000, count + 9)
    )
    sampled[::17] = VOCABULARY + 5
    return Step(
        slots=torch.randperm(capacity, generator=random)[:count].int(),
        positions=draw(400, 600, count),
        rows=torch.randperm(count + 9, generator=random)[:count],
        sampled=sampled.to(token_type),
        logits=torch.randn(8, VOCABULARY, generator=random).to(dtype),
        logit_rows=draw(0, 8, count),
        statistics=torch.rand(count, at.STATISTICS, generator=random),
        track=torch.full((count, at.TRACK), 9.0),
    )


def assert_close(on_gpu: State | Step, on_cpu: State | Step) -> None:
    for found, wanted in zip(on_gpu, on_cpu, strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("token_type", [torch.int32, torch.int64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 256])
def test_govern(count: int, dtype: torch.dtype, token_type: torch.dtype) -> None:
    words = moved(WORDS, "cuda")
    for seed in range(8):
        state = make_state(300, seed=seed)
        on_gpu = moved(state, "cuda")
        # Three steps in a row, so that what one leaves is what the next takes up.
        for more in range(3):
            drawn = make_drawn(
                count, seed=seed + 99 * more, capacity=300, token_type=token_type, dtype=dtype
            )
            there = moved(drawn, "cuda")
            govern(on_gpu, words, there)
            govern(state, WORDS, drawn)
            assert_close(there, drawn)
            assert_close(on_gpu, state)


def test_govern_in_a_graph() -> None:
    types = {"token_type": torch.int64, "dtype": torch.bfloat16}
    words, state = moved(WORDS, "cuda"), moved(make_state(64, seed=0), "cuda")
    drawn = moved(make_drawn(32, seed=0, capacity=64, **types), "cuda")
    govern(state, words, drawn)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        govern(state, words, drawn)
    for seed in range(1, 6):
        table, batch = make_state(64, seed=seed), make_drawn(32, seed=seed, capacity=64, **types)
        for held, fresh in ((state, table), (drawn, batch)):
            for old, new in zip(held, fresh, strict=True):
                old.copy_(new)
        graph.replay()
        govern(table, WORDS, batch)
        assert_close(drawn, batch)
        assert_close(state, table)


def test_coefficients() -> None:
    lengths = [1, 0, 700, 1, 129, 128, 1, 1]
    for seed in range(6):
        random = torch.Generator().manual_seed(seed)
        state = make_state(16, seed=seed)
        slots = torch.randperm(16, generator=random)[: len(lengths)].int()
        slots[::4] = -1
        first = torch.randint(0, 500, (len(lengths),), generator=random)
        positions = torch.cat([first[i] + torch.arange(n) for i, n in enumerate(lengths)])
        start = torch.tensor([0, *lengths]).cumsum(0).int()
        coef = torch.full((sum(lengths) + 5,), 9.0)
        there = coef.cuda()
        coefficients(there, moved(state, "cuda"), slots.cuda(), start.cuda(), positions.cuda())
        coefficients(coef, state, slots, start, positions)
        assert torch.equal(there.cpu(), coef)


def test_forbid_stops() -> None:
    state, slots = make_state(64, seed=3), torch.arange(0, 64, 2, dtype=torch.int32)
    rows, logits = torch.randperm(40)[:32], torch.randn(40, VOCABULARY)
    logits[::2, 10:] = -torch.inf  # a grammar near its end
    there = logits.cuda()
    forbid_stops(there, moved(state, "cuda"), slots.cuda(), rows.cuda())
    forbid_stops(logits, state, slots, rows)
    assert logits.isinf().any()
    assert torch.equal(there.cpu(), logits)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("left", [1, 12, 200])
def test_the_processed_distribution_and_confidence(left: int, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(left)
    logits = (torch.randn(6, VOCABULARY, generator=random) * 3).to(dtype)
    logits.masked_fill_(logits < logits.topk(left, dim=1).values[:, -1:], -torch.inf)
    rows, watched = torch.tensor([5, 0, 2]), torch.tensor([1, 0, 3])
    tokens = logits.argmax(dim=1).int()
    track = torch.zeros(4, at.TRACK)
    track[3, at.T_FORCED] = 1
    on_gpu = track.cuda()

    measure_processed(logits, rows, tokens, track, watched)
    on_device = [one.cuda() for one in (logits, rows, tokens)]
    measure_processed(*on_device, on_gpu, watched.cuda())

    close = {"rtol": 1e-4, "atol": 1e-5, "equal_nan": True}
    torch.testing.assert_close(on_gpu.cpu(), track, **close)
    lse = logits[rows].double().logsumexp(dim=1).float()
    found = confidence(*on_device[:2], lse.cuda())
    torch.testing.assert_close(found.cpu(), confidence(logits, rows, lse), **close)
