"""Functions of the operator's."""

import asyncio
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError

from steersman.reward.candidate import Candidate, Measure
from steersman.reward.function import Function, FunctionSpec
from tests.unit.reward.made_up import answer

pytestmark = pytest.mark.anyio

NO_FUNCTION = 3


def words(candidates: Sequence[Candidate]) -> list[int]:
    return [len(one.text.split()) for one in candidates]


async def awaited(candidates: Sequence[Candidate], times: int = 2) -> list[int]:
    await asyncio.sleep(0)
    return [times * score for score in words(candidates)]


def thread(candidates: Sequence[Candidate]) -> list[int]:
    return [threading.get_ident() for _ in candidates]


class Kept:
    """Calls that are methods, of a class and of an object."""

    @staticmethod
    def words(candidates: Sequence[Candidate]) -> list[int]:
        return words(candidates)

    async def __call__(self, candidates: Sequence[Candidate]) -> list[int]:
        return await awaited(candidates)


kept, three_times = Kept(), partial(awaited, times=3)


def made(name: str, **options: Any) -> Function:
    return Function(FunctionSpec(function=f"{__name__}:{name}", **options))


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("words", [1, 2]),
        ("awaited", [2, 4]),
        ("three_times", [3, 6]),
        ("kept", [2, 4]),
        ("Kept.words", [1, 2]),
    ],
)
async def test_functions_of_each_kind(name: str, scores: list[int]) -> None:
    assert await made(name).score([answer("a"), answer("a b")]) == scores


async def test_what_blocks_runs_in_a_thread() -> None:
    assert await made("thread").score([answer("a")]) != [threading.get_ident()]


def test_it_says_what_it_needs() -> None:
    assert made("words").needs == frozenset()
    options = {"type": "python", "function": f"{__name__}:words", "needs": ["top", "logprob"]}
    reward = Function(FunctionSpec.model_validate(options))
    assert reward.needs == {Measure.TOP, Measure.LOGPROB}
    assert made("words").data.model_validate({"any": {"thing": 1}}).model_dump() == {
        "any": {"thing": 1}
    }


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no_such_module_here:f", "No module named"),
        ("steersman.reward:none", "cannot be imported"),
        (f"{__name__}:NO_FUNCTION", "not callable"),
    ],
)
def test_a_function_that_is_not_there(place: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Function(FunctionSpec(function=place))


@pytest.mark.parametrize("place", ["words", "a:b:c", "a:", ":b", "os;x:y", "http://a/b:c"])
def test_a_place_has_a_form(place: str) -> None:
    with pytest.raises(ValidationError):
        FunctionSpec(function=place)
