"""Kernels that only a GPU runs compile for each kind of GPU, and fit into it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman_kernels import governor_kernels
from tests.unit.kernels import targets
from tests.unit.kernels.targets import Case, Usage


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Case, Usage]]:
    """Every kernel with every type of its arguments, for every target."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        patch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
        yield {case: targets.compiled(case) for case in targets.cases()}


def test_every_kernel_was_compiled_for_every_target(found: dict[Case, Usage]) -> None:
    made = {(case.kernel, case.target) for case in found}
    assert made == set(itertools.product(targets.VARIANTS, targets.TARGETS))
    assert all(usage.registers > 0 for usage in found.values())


def test_every_type_of_an_argument_was_compiled_for_every_target(found: dict[Case, Usage]) -> None:
    names = governor_kernels._govern_kernel.arg_names
    drawn, logits = names.index("sampled_ptr"), names.index("logits_ptr")
    cases = [case for case in found if case.kernel == "_govern_kernel"]
    pairs = {(case.types[drawn], case.types[logits]) for case in cases}
    models = {f"*{model}" for model in targets.MODEL}
    assert pairs == set(itertools.product(("*i32", "*i64"), models))
    for target in targets.TARGETS:
        ours = [case for case in cases if case.target == target]
        assert {case.types[drawn] for case in ours} == {"*i32", "*i64"}
        assert {case.types[logits] for case in ours} == models


def test_nothing_spills_or_needs_a_stack(found: dict[Case, Usage]) -> None:
    assert {case: usage for case, usage in found.items() if usage.spills or usage.stack} == {}


def test_aligned_rows_are_read_16_bytes_at_a_time(found: dict[Case, Usage]) -> None:
    streaming = {case: usage.loads for case, usage in found.items() if case.streams}
    assert {case.kernel for case in streaming} == {
        "_steer_kernel",
        "_project_kernel",
        "_parts_kernel",
        "_forbid_stops_kernel",
    }
    assert {case: loads for case, loads in streaming.items() if loads != {16}} == {}


def test_other_rows_are_not(found: dict[Case, Usage]) -> None:
    """Or the test above could not fail."""
    unaligned = [usage.loads for case, usage in found.items() if not case.aligned]
    assert unaligned
    assert not any(16 in loads for loads in unaligned if loads)


def test_spills_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    case = next(c for c in targets.cases() if (c.kernel, c.target) == ("_govern_kernel", "sm_90"))
    usage = targets.compiled(case, maxnreg=24)
    assert usage.spills or usage.stack
