"""Stops of an answer that is too short: the loop on a CPU, and the kernel."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from steersman_kernels import layout as at
from steersman_kernels import stops as module
from steersman_kernels.stops import forbid_stops
from tests.unit.kernels import compiled, interpreted
from tests.unit.kernels.requests import SIZE, STOPS, Asked, table

INTERPRETED = interpreted(module)
FORBID = pytest.mark.parametrize("function", [forbid_stops, INTERPRETED.forbid_stops_triton])


@FORBID
@pytest.mark.parametrize("logits_type", [torch.float32, torch.bfloat16, torch.float16])
def test_a_short_answer_may_not_end(
    function: Callable[..., None], logits_type: torch.dtype
) -> None:
    state = table()
    for slot, governed in enumerate([True, True, True, False]):
        Asked(min_answer=3, governed=governed).take(state, slot)
        state.ints[slot, [at.PHASE, at.ANSWERED]] = torch.tensor([at.ANSWER, 2]).int()
    state.ints[1, at.ANSWERED] = 3
    state.ints[2, at.PHASE] = at.THINKING
    logits = torch.zeros(6, SIZE, dtype=logits_type)
    slots, rows = torch.tensor([3, 0, 1, 2], dtype=torch.int32), torch.tensor([0, 5, 2, 3])
    function(logits, state, slots, rows)

    assert logits[5, list(STOPS)].eq(-torch.inf).all()
    assert logits.isinf().sum() == len(STOPS)
    function(logits, state, slots[:0], rows[:0])
    state.ints[:, at.STOPS] = 0
    logits[:] = 0
    function(logits, state, slots, rows)
    assert not logits.isinf().any()


@FORBID
def test_an_answer_that_can_only_end_may_end(function: Callable[..., None]) -> None:
    """A grammar at its end has masked all but the stops, or one of them."""
    state = table()
    for slot in range(3):
        Asked(min_answer=3).take(state, slot)
        state.ints[slot, [at.PHASE, at.ANSWERED]] = torch.tensor([at.ANSWER, 1]).int()
    logits = torch.full((3, SIZE), -torch.inf)
    logits[0, list(STOPS)] = 1.0
    logits[1, STOPS[0]] = 1.0
    logits[2, [STOPS[0], 4]] = 1.0
    before = logits.clone()
    function(logits, state, torch.arange(3).int(), torch.arange(3))

    assert torch.equal(logits[:2], before[:2])
    assert logits[2].isfinite().nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize("logits_type", ["*fp32", "*bf16", "*fp16"])
def test_the_kernel_that_forbids_stops_compiles_for_a_gpu(
    logits_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    kernel = module._forbid_stops_kernel
    types = {name: "*i32" for name in kernel.arg_names if name.endswith("_ptr")}
    types |= {"logits_ptr": logits_type, "rows_ptr": "*i64"}
    types |= {"logits_stride": "i32", "logits_size": "i32"}
    assert "ptx" in compiled(kernel, types, {"BLOCK": 1024, "LAYOUT": at.FINGERPRINT})
