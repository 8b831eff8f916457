"""Responses against facts that their request gives."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import ValidationError

from steersman.reward.candidate import Candidate
from steersman.reward.verify import Verify, VerifyData, VerifySpec
from tests.unit.reward.made_up import answer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def verify() -> AsyncGenerator[Verify]:
    reward = Verify(VerifySpec(), seconds=5)
    yield reward
    await reward.close()


def given(text: str, **data: Any) -> Candidate:
    return answer(text, data=VerifyData.model_validate(data))


@pytest.mark.parametrize(
    ("text", "data", "score"),
    [
        (r"It is \boxed{1/2}.", {"reference": "0.5"}, 1),
        (r"It is \boxed{1/3}.", {"reference": "0.5"}, 0),
        ('{"a": 1}', {"schema": {"required": ["a"]}}, 1),
        ('{"b": 1}', {"schema": {"required": ["a"]}}, 0),
        ("order 66 it is", {"regex": r"\d{2}"}, 1),
        ("order 6 it is", {"regex": r"^\d"}, 0),
        ("one two\nthree", {"words": {"min": 3, "max": 3}}, 1),
        ("one two", {"words": {"min": 3}}, 0),
        ("abcd", {"tokens": {"max": 4}}, 1),
        ("abcde", {"tokens": {"max": 4}}, 0),
        ("a b", {"words": {"max": 2}, "regex": "c", "tokens": {"min": 9}, "reference": "a b"}, 0.5),
    ],
)
async def test_the_score_is_the_share_of_facts_that_hold(
    verify: Verify, text: str, data: dict[str, Any], score: float
) -> None:
    assert await verify.score([given(text, **data)]) == [score]


async def test_each_candidate_has_facts_of_its_own(verify: Verify) -> None:
    batch = [given("7", reference="7"), given("7", regex="8"), given("7", words={"max": 1})]
    assert await verify.score(batch) == [1, 0, 1]


def doubling(levels: int) -> dict[str, Any]:
    """A schema whose check doubles with each of its levels."""
    both = {f"a{k}": {"allOf": [{"$ref": f"#/$defs/a{k + 1}"}] * 2} for k in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**both, f"a{levels}": {}}}


async def test_what_takes_too_long_does_not_hold_and_hurts_nobody() -> None:
    reward = Verify(VerifySpec(), seconds=0.3)
    batch = [
        given("1", schema=doubling(3)),
        given("1", schema=doubling(40)),
        given(r"\boxed{10^{10^{10}} - 10^{10^{9}}}", reference="7"),
        given("1", schema={"const": 1}),
    ]
    try:
        assert await reward.score(batch) == [1, 0, 0, 1]
    finally:
        await reward.close()


async def test_a_catastrophic_expression_is_quick(verify: Verify) -> None:
    # Python's own engine would take longer than the universe is old.
    assert await verify.score([given("a" * 5000 + "!", regex="^(a+)+$")]) == [0]
    schema = {"pattern": "^(a+)+$"}
    assert await verify.score([given(f'"{"a" * 5000}!"', schema=schema)]) == [0]


async def test_a_cancelled_call_goes_no_further(verify: Verify) -> None:
    seen: list[str] = []

    class Watched(VerifyData):
        def __getattribute__(self, name: str) -> Any:
            if name == "reference":
                seen.append(name)
            return super().__getattribute__(name)

    batch = [answer("7", data=Watched(reference="8")) for _ in range(50)]
    seen.clear()
    call = asyncio.ensure_future(verify.score(batch))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert 0 < len(seen) < len(batch)


@pytest.mark.parametrize(
    ("data", "where", "message"),
    [
        ({}, (), "needs one of"),
        ({"regex": None}, (), "needs one of"),
        ({"regexp": "a"}, ("regexp",), "not permitted"),
        ({"regex": "(?=a)"}, ("regex",), "cannot be parsed by RE2"),
        ({"regex": r"(a)\1"}, ("regex",), "cannot be parsed by RE2"),
        ({"regex": "a" * 5000}, ("regex",), "characters long"),
        ({"regex": "\ud800"}, ("regex",), "surrogates"),
        ({"schema": {"type": 3}}, ("schema",), "must be of"),
        ({"schema": "a"}, ("schema",), "dictionary"),
        ({"json_schema": {}}, ("json_schema",), "not permitted"),
        ({"reference": ""}, ("reference",), "at least 1"),
        ({"reference": 7}, ("reference",), "string"),
        ({"words": {}}, ("words",), "min or max"),
        ({"words": {"min": 2, "max": 1}}, ("words",), "above max"),
        ({"tokens": {"max": -1}}, ("tokens", "max"), "greater"),
        ({"tokens": 3}, ("tokens",), "Range"),
    ],
)
def test_facts_that_cannot_be_used_are_named(
    data: dict[str, Any], where: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        VerifyData.model_validate(data)
    assert caught.value.errors()[0]["loc"] == where
