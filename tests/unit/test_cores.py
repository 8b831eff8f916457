"""The cores that a server on a CPU takes."""

import os
from argparse import Namespace

import pytest

from steersman import cores
from steersman.engine.settings import NAP

BIND = "VLLM_CPU_OMP_THREADS_BIND"


def args(tensor: int = 1, pipeline: int = 1, data: int = 1) -> Namespace:
    return Namespace(
        tensor_parallel_size=tensor, pipeline_parallel_size=pipeline, data_parallel_size=data
    )


def has(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(numbers))


@pytest.mark.parametrize(("numbers", "bound"), [((0, 1), "0,1"), ((5,), "5"), ((7, 2, 4), "2,4,7")])
def test_all_of_few(monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...], bound: str) -> None:
    has(monkeypatch, *numbers)
    environment: dict[str, str] = {}
    cores.use_all(args(), environment)
    assert environment == {NAP: "1", BIND: bound}


def test_of_many_vllm_leaves_one_to_its_engine_core(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, *range(cores.FEW))
    environment: dict[str, str] = {}
    cores.use_all(args(), environment)
    assert environment == {}


@pytest.mark.parametrize("several", [args(tensor=2), args(pipeline=2), args(data=2)])
def test_several_ranks_are_bound_by_the_operator(
    monkeypatch: pytest.MonkeyPatch, several: Namespace
) -> None:
    has(monkeypatch, 0, 1)
    environment: dict[str, str] = {}
    cores.use_all(several, environment)
    assert environment == {NAP: "1"}


def test_the_operator_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 0, 1)
    environment = {NAP: "0", BIND: "1"}
    cores.use_all(args(), environment)
    assert environment == {NAP: "0", BIND: "1"}
