"""Rewards that a request names: checked, and summed."""

import asyncio
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from steersman.errors import ControlError
from steersman.reward.candidate import Measure
from steersman.reward.counted import Spent
from steersman.reward.error import RewardError
from steersman.reward.function import AnyData
from steersman.reward.likelihood import Likelihood, LikelihoodSpec
from steersman.reward.rewards import Asked, Rewards
from steersman.reward.verify import Verify, VerifySpec
from steersman_client import Rewards as RewardsField
from steersman_client import RewardTerm
from tests.unit.reward.made_up import MadeUp, answer

pytestmark = pytest.mark.anyio

FIELD: TypeAdapter[Any] = TypeAdapter(RewardsField)


class Given(MadeUp):
    """Scores by what the request gives."""

    data = AnyData

    def __init__(self) -> None:
        super().__init__(lambda one: one.data.model_dump()["score"])


def asked(rewards: Rewards, field: object) -> Asked:
    return rewards.asked(FIELD.validate_python(field), "control.search.reward")


@pytest.fixture
def rewards() -> Rewards:
    return Rewards(
        {
            "length": MadeUp(),
            "given": Given(),
            "verify": Verify(VerifySpec()),
            "likelihood": Likelihood(LikelihoodSpec()),
        }
    )


@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("length", [("length", 1, {})]),
        ({"name": "given", "data": {"score": 3}}, [("given", 1, {"score": 3})]),
        (RewardTerm(name="a", weight=2), [("a", 2, {})]),
        (["length"], [("length", 1, {})]),
        (
            [{"name": "length", "weight": -0.5}, "given"],
            [("length", -0.5, {}), ("given", 1, {})],
        ),
    ],
)
def test_the_forms_of_the_field(field: object, terms: list[tuple[str, float, object]]) -> None:
    read = FIELD.validate_python(field)
    assert [(one.name, one.weight, one.data) for one in read] == terms
    assert FIELD.validate_python(FIELD.dump_python(read)) == read


@pytest.mark.parametrize(
    ("field", "where"),
    [
        (3, ()),
        ([], ()),
        (["a"] * 9, ()),
        ("", (0, "name")),
        ({}, (0, "name")),
        ({"name": 3}, (0, "name")),
        ({"name": "a", "url": "http://x"}, (0, "url")),
        (["a", {"name": "b", "weight": float("nan")}], (1, "weight")),
        (["a", {"name": "b", "weight": 1e7}], (1, "weight")),
        ([{"name": "a", "data": 3}], (0, "data")),
        ([["a"]], (0,)),
    ],
)
def test_a_wrong_field_is_named(field: object, where: tuple[object, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        FIELD.validate_python(field)
    assert caught.value.errors()[0]["loc"] == where


def test_the_schema_has_all_forms() -> None:
    name, term, several = FIELD.json_schema()["anyOf"]
    assert name == {"type": "string"}
    assert term == {"$ref": "#/$defs/RewardTerm"}
    assert (several["type"], several["minItems"], several["maxItems"]) == ("array", 1, 8)


@pytest.mark.parametrize(
    ("field", "param", "message"),
    [
        ("none", "[0].name", "unknown reward 'none'; this server has: given, length, likelihood"),
        (["length", "none"], "[1].name", "unknown reward"),
        ({"name": "length", "data": {"a": 1}}, "[0].data.a", "unknown field"),
        ("verify", "[0].data", "verify needs one of reference"),
        ({"name": "verify", "data": {"words": {"low": 1}}}, "[0].data.words.low", "unknown field"),
        (
            ["length", {"name": "verify", "data": {"schema": {"$ref": "http://x/y"}}}],
            "[1].data.schema",
            "not within the schema",
        ),
        ({"name": "verify", "data": {"regex": "(?=a)"}}, "[0].data.regex", "by RE2"),
    ],
)
def test_what_the_server_cannot_do_is_refused(
    rewards: Rewards, field: object, param: str, message: str
) -> None:
    with pytest.raises(ControlError, match=message) as caught:
        asked(rewards, field)
    assert caught.value.param == f"control.search.reward{param}"
    assert caught.value.status == 400


def test_it_says_what_it_needs(rewards: Rewards) -> None:
    assert asked(rewards, "length").needs == frozenset()
    assert asked(rewards, ["length", "likelihood"]).needs == {Measure.LOGPROB}
    assert rewards.names == ("given", "length", "likelihood", "verify")


async def test_several_rewards_are_a_weighted_sum(rewards: Rewards) -> None:
    spent = Spent()
    one = asked(
        rewards,
        [{"name": "length", "weight": 2.0}, {"name": "given", "weight": -1, "data": {"score": 3}}],
    )
    assert await one.score([answer("ab"), answer("abcd")], spent) == (1, 5)
    assert spent == Spent(reward_calls=4, reward_tokens=12)
    assert await one.score([]) == ()


async def test_a_sum_is_clamped_and_an_open_trace_is_the_worst(rewards: Rewards) -> None:
    up, down = (asked(rewards, {"name": "length", "weight": weight}) for weight in (1e3, -1e3))
    given = [answer("a"), answer(None), answer("")]
    assert await up.score(given) == (40, -40, 0)
    assert await down.score(given) == (-40, -40, 0)


async def test_requests_with_data_of_their_own_share_a_batch() -> None:
    given = Given()
    server = Rewards({"given": given})
    one, other = (asked(server, {"name": "given", "data": {"score": s}}) for s in (1, 2))
    first, second = await asyncio.gather(one.score([answer("a")]), other.score([answer("b")]))
    assert (first, second) == ((1,), (2,))
    assert given.batches == [["a", "b"]]


async def test_a_reward_that_fails_fails_the_sum_and_stops_the_rest() -> None:
    held = MadeUp(held=True)
    broken = MadeUp(lambda one: float("nan"))
    server = Rewards({"held": held, "broken": broken})
    with pytest.raises(RewardError, match=r"reward 'broken': .*NaN"):
        await asked(server, ["held", "broken"]).score([answer("a")])
    assert held.running == 0
    await server.close()
    assert (held.closed, broken.closed) == (True, True)
