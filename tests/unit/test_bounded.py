"""Functions in a process that is ended when a call takes too long."""

import multiprocessing
import os
from collections.abc import Iterator

import pytest

from steersman.bounded import Bounded, BoundedError


def work(what: str) -> int:
    if what == "fail":
        raise KeyError(what)
    if what == "die":
        os._exit(1)
    while what == "spin":
        pass
    return os.getpid()


@pytest.fixture
def bounded() -> Iterator[Bounded[int]]:
    bounded = Bounded(work, 0.2)
    yield bounded
    bounded.close()


def test_calls_run_in_one_process_which_an_error_does_not_end(bounded: Bounded[int]) -> None:
    first = bounded("go")
    assert first != os.getpid()
    with pytest.raises(BoundedError, match="KeyError: 'fail'"):
        bounded("fail")
    assert bounded("go") == first


def test_a_call_without_end_is_ended_and_the_next_one_works(bounded: Bounded[int]) -> None:
    first = bounded("go")
    for what in ("spin", "die"):
        with pytest.raises(BoundedError, match="took too long"):
            bounded(what)
    assert bounded("go") != first


def test_closing_ends_the_process(bounded: Bounded[int]) -> None:
    process = bounded("go")
    assert process in {one.pid for one in multiprocessing.active_children()}
    bounded.close()
    assert process not in {one.pid for one in multiprocessing.active_children()}
    bounded.close()
