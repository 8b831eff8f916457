"""Speed of the kernels on a GPU, against PyTorch and against the memory's bandwidth.

First the results are compared with float64. Then each case runs in a CUDA graph, over copies of its
tensors that together exceed the L2 cache, and the time is the median replay's, by launch. A case
too small for that says `"cold": false`: there the time is that of a launch.

- `index_add`: `hidden.index_add_(0, rows, bank[bank_rows] * factor)`, whose factor is 0 in
  rows that are not steered, since selecting rows needs their number on the host
- `compiled`: `hidden += bank[bank_rows] * factor` under `torch.compile`, for each hidden size,
  with any number of rows
- `floor`: the bytes that must move over the bandwidth of a copy: steered rows read and written,
  each bank row in use read once, their numbers and coefficients

- `log_softmax`: of `entropy`, the same three numbers by `torch.log_softmax`; its floor is that of
  reading the logits once, and the aim is to come within 1.25 times of it
- `govern`: a step of requests that all think, with loops, exits and a law in use

Needs torch and triton alone:

    PYTHONPATH=kernels python benchmarks/kernels.py [--out FILE]
"""

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import report
import torch
import triton
from torch import Tensor

from steersman_kernels import layout as at
from steersman_kernels.entropy import entropy
from steersman_kernels.gate import gate
from steersman_kernels.governor import State, Step, govern
from steersman_kernels.project import project
from steersman_kernels.steer import steer
from steersman_kernels.strength import coefficients
from steersman_kernels.vocabulary import Vocabulary

TOKENS = (1, 32, 256, 2048, 8192)
SIZES = (896, 3584, 4096, 8192)
SHARES = (1, 0.5, 0)
USED = (1, 256)
BANK_ROWS = 256
DTYPE = torch.bfloat16
VOCABULARY = 151_936
REPLAYS = 25
LAUNCHES = (20, 4096)  # least and most in a graph

Steer = Callable[[Tensor, Tensor, Tensor, Tensor], object]


def index_add(hidden: Tensor, bank: Tensor, bank_rows: Tensor, coef: Tensor) -> None:
    hidden.index_add_(
        0, numbers(len(hidden)), change(hidden, bank, bank_rows, coef).to(hidden.dtype)
    )


@cache
def numbers(tokens: int) -> Tensor:
    return torch.arange(tokens, device="cuda")


def expression(hidden: Tensor, bank: Tensor, bank_rows: Tensor, coef: Tensor) -> None:
    hidden += change(hidden, bank, bank_rows, coef)


def change(hidden: Tensor, bank: Tensor, bank_rows: Tensor, coef: Tensor) -> Tensor:
    """`[tokens, size]` float32: what to add, with zeros in rows that are not steered."""
    bank_rows, coef = bank_rows[: hidden.shape[0]], coef[: hidden.shape[0]]
    return bank[bank_rows.clamp(min=0)] * torch.where(bank_rows >= 0, coef, 0.0).unsqueeze(1)


def seconds(run: Callable[[], object], launches: int) -> float:
    """Median time of one of the launches that `run` makes, as a graph of them all."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / launches)
    return statistics.median(times[5:])


def bandwidth() -> float:
    """Bytes a second that a copy of a gigabyte reads and writes."""
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: [target.copy_(source) for _ in range(5)], 5)


def chosen_rows(tokens: int, steered: int, distinct: int) -> Tensor:
    """`[tokens]` int32: so many random rows steered, by so many rows of the bank."""
    order = torch.randperm(tokens, device="cuda")[:steered]
    bank_rows = torch.full((tokens,), -1, dtype=torch.int32, device="cuda")
    bank_rows[order] = torch.arange(steered, dtype=torch.int32, device="cuda") % distinct
    return bank_rows


def check(run: Steer, tokens: int, size: int) -> float:
    """Largest error over the most that rounding once allows; raises if it is above 1."""
    hidden = torch.randn(tokens, size, device="cuda").to(DTYPE)
    bank = torch.randn(BANK_ROWS, size, device="cuda").to(DTYPE)
    bank_rows, coef = (
        chosen_rows(tokens, -(-tokens // 2), BANK_ROWS),
        torch.randn(tokens, device="cuda"),
    )
    before = hidden.double()
    added = change(before, bank.double(), bank_rows, coef.double())
    run(hidden, bank, bank_rows, coef)
    most = torch.finfo(DTYPE).eps / 2 * (before + added).abs()
    most += 2**-23 * (before.abs() + added.abs())
    ratio = ((hidden.double() - before - added).abs() / most.clamp(min=1e-30)).max().item()
    if not ratio <= 1:
        raise SystemExit(f"wrong at {tokens} x {size}: {ratio:.3g} of the error allowed")
    return round(ratio, 4)


def measure_steer(
    runs: dict[str, Steer], tokens: int, size: int, steered: int, used: int, copied: float
) -> dict[str, Any]:
    bank_rows = chosen_rows(tokens, steered, used)
    coef = torch.ones(tokens, device="cuda")
    row_bytes = size * DTYPE.itemsize
    moved = (2 * steered + used) * row_bytes + tokens * 8
    # More than the cache also where half of the rows are left.
    wanted = 4 * torch.cuda.get_device_properties(0).L2_cache_size
    touched = (tokens + used) * row_bytes
    copies = min(max(-(-wanted // touched), 2), LAUNCHES[1])
    hidden = torch.randn(copies, tokens, size, device="cuda", dtype=DTYPE)
    # Banks overlap, but not in the rows in use.
    bank = torch.randn(copies * used + BANK_ROWS, size, device="cuda", dtype=DTYPE) / 1000
    banks = [bank[copy * used :][:BANK_ROWS] for copy in range(copies)]
    launches = max(LAUNCHES[0], copies)

    def every(run: Steer) -> None:
        for launch in range(launches):
            run(hidden[launch % copies], banks[launch % copies], bank_rows, coef)

    row: dict[str, Any] = {"rows": tokens, "hidden": size, "steered": steered, "slots": used}
    row["cold"] = steered > 0 and copies * touched >= wanted
    row["floor_us"] = microseconds(moved / copied)
    for name, run in runs.items():
        row[f"{name}_us"] = microseconds(seconds(lambda run=run: every(run), launches))
    row["of_floor"] = round(row["floor_us"] / row["steer_us"], 3)
    return row


def measure_gate(name: str, lengths: list[int], *, steered: bool) -> dict[str, Any]:
    count, tokens = len(lengths), sum(lengths)
    requests = torch.zeros(count, at.WIDTH, dtype=torch.int32)
    requests[:, at.ORIGIN] = 0 if lengths[0] == 1 else tokens
    requests[:, at.OPENED] = requests[:, at.CLOSED] = at.NEVER
    requests[:, at.ROWS : at.COUNTS] = torch.arange(len(at.CLASSES))
    boundary = torch.rand(VOCABULARY) < 0.1
    arguments = (
        requests.cuda(),
        (torch.arange(count) if steered else torch.full((count,), -1)).int().cuda(),
        torch.tensor([0, *lengths]).cumsum(0).int().cuda(),
        torch.cat([torch.arange(length) for length in lengths]).cuda(),
        torch.randint(0, VOCABULARY, (tokens,), device="cuda", dtype=torch.int32),
        Vocabulary.of([5], [6])._replace(boundary=boundary).to("cuda"),
        torch.empty(8192, dtype=torch.int32, device="cuda"),
    )

    def every() -> None:
        for _ in range(LAUNCHES[0]):
            gate(*arguments)

    taken = microseconds(seconds(every, LAUNCHES[0]))
    return {"batch": name, "requests": count, "rows": tokens, "steered": steered, "us": taken}


def measure_project(tokens: int, size: int, edited: int) -> dict[str, Any]:
    """The op of an edit whose heads are as wide together as the hidden state."""
    output, inputs = (
        torch.randn(tokens, size, device="cuda", dtype=DTYPE) for _ in ("output", "inputs")
    )
    read, write = (torch.randn(8, size, device="cuda") / size for _ in ("read", "write"))
    bank_rows = chosen_rows(tokens, edited, 1)
    coef = torch.ones(tokens, device="cuda")

    def every() -> None:
        for _ in range(LAUNCHES[0]):
            project(output, inputs, read, write, bank_rows, coef)

    taken = microseconds(seconds(every, LAUNCHES[0]))
    return {"rows": tokens, "hidden": size, "edited": edited, "us": taken}


def log_softmax(logits: Tensor, rows: Tensor) -> Tensor:
    """Return what `entropy` does, written plainly."""
    chosen = logits[rows].float()
    log = torch.log_softmax(chosen, dim=1)
    weights = log.exp()
    nats = -(weights * log).sum(dim=1)
    return torch.stack([chosen[:, 0] - log[:, 0], nats, weights.amax(dim=1)], dim=1)


def measure_entropy(rows: int, dtype: torch.dtype, copied: float) -> dict[str, Any]:
    # Half a gigabyte a copy at the least: none is in the cache when its turn comes again.
    copies = max(2, 2**29 // (rows * VOCABULARY * dtype.itemsize))
    logits = [torch.randn(rows, VOCABULARY, device="cuda").to(dtype) for _ in range(copies)]
    chosen = numbers(rows)
    error = (entropy(logits[0], chosen) - log_softmax(logits[0], chosen)).abs().max().item()
    if not error < 1e-3:
        raise SystemExit(f"wrong entropy at {rows} rows: off by {error:.3g}")

    def every(run: Callable[[Tensor, Tensor], Tensor]) -> float:
        return seconds(lambda: [run(each, chosen) for each in logits], copies)

    row: dict[str, Any] = {"rows": rows, "vocabulary": VOCABULARY}
    row["dtype"] = str(dtype).removeprefix("torch.")
    # A copy's bandwidth counts what it reads and what it writes.
    row["floor_us"] = microseconds(logits[0].nbytes / copied)
    row["entropy_us"] = microseconds(every(entropy))
    row["log_softmax_us"] = microseconds(every(log_softmax))
    row["of_floor"] = round(row["floor_us"] / row["entropy_us"], 3)
    return row


def measure_govern(count: int) -> dict[str, Any]:
    """Steps of requests that all think, with loops, exits and a law in use."""
    state = State.empty(count, "cuda")
    state.ints[:, [at.BUDGET, at.LATEST]] = at.NEVER
    state.ints[:, [at.LOOP, at.GOVERNED]] = 1
    state.ints[:, at.LAW] = at.PROPORTIONAL
    state.ints[:, at.WINDOW] = 48
    state.ints[:, at.PHASE] = at.THINKING
    state.ints[:, [at.THOUGHT, at.SEEN]] = 500
    state.floats[:, [at.GAIN, at.HIGH]] = 1.0
    boundary = torch.rand(VOCABULARY) < 0.1
    vocabulary = Vocabulary.of([5], [6], closing=[6])._replace(boundary=boundary).to("cuda")
    rows, positions = numbers(count), torch.full((count,), 600, device="cuda")
    drawn = Step(
        slots=rows.int(),
        positions=positions,
        rows=rows,
        sampled=torch.randint(10, VOCABULARY, (count,), device="cuda"),
        logits=torch.randn(count, VOCABULARY, device="cuda"),
        logit_rows=rows,
        statistics=torch.rand(count, at.STATISTICS, device="cuda"),
        track=torch.empty(count, at.TRACK, device="cuda"),
    )
    coef = torch.empty(8192, device="cuda")
    start = torch.arange(count + 1, dtype=torch.int32, device="cuda")

    def step() -> None:
        for _ in range(LAUNCHES[0]):
            govern(state, vocabulary, drawn)

    def factors() -> None:
        for _ in range(LAUNCHES[0]):
            coefficients(coef, state, drawn.slots, start, positions)

    row = {"requests": count, "us": microseconds(seconds(step, LAUNCHES[0]))}
    row["coefficients_us"] = microseconds(seconds(factors, LAUNCHES[0]))
    return row


def microseconds(value: float) -> float:
    return round(value * 1e6, 3)


def measure() -> dict[str, Any]:
    torch.manual_seed(0)
    errors = {f"{t}x{s}": check(steer, t, s) for t in TOKENS for s in SIZES}
    copied = bandwidth()
    rows = []
    for size in SIZES:
        torch.compiler.reset()
        compiled = torch.compile(expression)
        runs: dict[str, Steer] = {"steer": steer, "index_add": index_add, "compiled": compiled}
        for tokens in TOKENS:
            steered = [round(tokens * share) for share in SHARES]
            cases = dict.fromkeys((n, min(n, s)) for n, s in itertools.product(steered, USED))
            for case in cases:
                rows.append(measure_steer(runs, tokens, size, *case, copied))
                print(json.dumps(rows[-1]), flush=True)
    return {
        "what": "the kernels on a GPU: microseconds a call, in CUDA graphs, medians",
        "dtype": str(DTYPE).removeprefix("torch."),
        "error_over_allowed": errors,
        "copy_bytes_per_second": round(copied),
        "steer": rows,
        "gate": [
            measure_gate("decode", [1] * 256, steered=True),
            measure_gate("decode", [1] * 256, steered=False),
            measure_gate("prefill", [8192], steered=True),
        ],
        "project": [
            measure_project(tokens, size, edited)
            for tokens, size in itertools.product(TOKENS, SIZES)
            for edited in dict.fromkeys((tokens, 0))
        ],
        "entropy": [
            measure_entropy(count, dtype, copied)
            for count, dtype in itertools.product((1024, 256), (torch.float32, torch.bfloat16))
        ],
        "govern": [measure_govern(count) for count in (1, 32, 256)],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=report.RESULTS / "kernels.json")
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        print("benchmarks/kernels.py needs a CUDA device", file=sys.stderr)
        raise SystemExit(2)
    machine = {
        **report.machine(),
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
    result = {**measure(), "machine": machine}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
