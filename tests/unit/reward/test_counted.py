"""A reward in batches, in time, and counted."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from steersman.reward.candidate import Candidate
from steersman.reward.counted import Counted, Spent
from steersman.reward.counting import RewardCounting
from steersman.reward.error import RewardError
from steersman.reward.rewards import Rewards
from steersman_client import RewardTerm
from tests.unit.reward.made_up import MadeUp, answer
from tests.unit.samples import total

pytestmark = pytest.mark.anyio


async def until(holds: Any) -> None:
    while not holds():
        await asyncio.sleep(0)


def left_running() -> list[str]:
    """Tasks of rewards."""
    names = (str(task.get_coro()) for task in asyncio.all_tasks())
    return [name for name in names if "Counted._" in name]


async def test_scores_come_in_order_and_are_counted() -> None:
    spent = Spent()
    counted = Counted("length", MadeUp())
    assert await counted.score([answer("ab"), answer("a"), answer("abc")], spent) == (2, 1, 3)
    assert spent == Spent(reward_calls=3, reward_tokens=6)
    assert await counted.score([], spent) == ()
    assert spent.reward_calls == 3
    assert left_running() == []


async def test_calls_of_the_same_time_are_one_batch() -> None:
    reward, one, other = MadeUp(), Spent(), Spent()
    counted = Counted("length", reward)
    first, second = await asyncio.gather(
        counted.score([answer("a"), answer("ab")], one), counted.score([answer("abc")], other)
    )
    assert (first, second) == ((1, 2), (3,))
    assert reward.batches == [["a", "ab", "abc"]]
    assert (one, other) == (Spent(2, 3), Spent(1, 3))


async def test_calls_that_come_while_a_batch_runs_are_the_next_one() -> None:
    reward = MadeUp(held=True)
    counted = Counted("length", reward)
    calls = [asyncio.create_task(counted.score([answer("a")]))]
    await until(lambda: reward.running)
    calls += [asyncio.create_task(counted.score([answer(text)])) for text in ("ab", "abc")]
    await asyncio.sleep(0)
    reward.go_on.set()
    assert await asyncio.gather(*calls) == [(1,), (2,), (3,)]
    assert reward.batches == [["a"], ["ab", "abc"]]


async def test_a_batch_belongs_to_no_request() -> None:
    request = ContextVar("request", default="none")
    seen: list[str] = []

    def by(_: Candidate) -> int:
        seen.append(request.get())
        return 1

    request.set("the first to call")
    await Counted("length", MadeUp(by)).score([answer("a")])
    assert seen == ["none"]


async def test_batches_have_a_largest_size() -> None:
    reward = MadeUp(max_batch=2)
    counted = Counted("length", reward)
    first, second = await asyncio.gather(
        counted.score([answer("a" * n) for n in range(3)]), counted.score([answer("abc")])
    )
    assert (first, second) == ((0, 1, 2), (3,))
    assert reward.batches == [["", "a"], ["aa", "abc"]]


async def test_scores_are_clamped() -> None:
    counted = Counted("wild", MadeUp(lambda one: float(one.text)))
    given = [answer(text) for text in ("1e9", "-1e9", "inf", "-inf", "3")]
    assert await counted.score(given) == (40, -40, 40, -40, 3)


async def test_thinking_that_is_not_closed_is_the_worst_and_costs_nothing() -> None:
    reward, spent = MadeUp(), Spent()
    counted = Counted("length", reward)
    assert await counted.score([answer(None), answer("ab"), answer(None)], spent) == (-40, 2, -40)
    assert await counted.score([answer(None)], spent) == (-40,)
    assert (reward.batches, spent) == ([["ab"]], Spent(1, 2))


@pytest.mark.parametrize(("see", "text"), [("answer", "b"), ("all", "<think>a</think>b")])
async def test_a_reward_sees_what_it_judges(see: Any, text: str) -> None:
    reward, spent = MadeUp(see=see), Spent()
    whole = Candidate("<think>a</think>b", "b", "a", tokens=4, answer_tokens=1)
    await Counted("length", reward).score([whole], spent)
    assert reward.batches == [[text]]
    assert spent.reward_tokens == {"answer": 1, "all": 4}[see]


class Odd(MadeUp):
    """Gives something else than scores."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self._given = given

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        if isinstance(self._given, BaseException):
            raise self._given
        given: Sequence[float] = self._given
        return given


class NotAsync(MadeUp):
    def score(self, candidates: Sequence[Candidate]) -> Any:
        return [1.0 for _ in candidates]


@pytest.mark.parametrize(
    ("reward", "reason"),
    [
        (lambda: Odd(ValueError("no such thing")), "failed: ValueError: no such thing"),
        (lambda: Odd([]), "0 scores for 1 responses"),
        (lambda: Odd([1.0, 2.0]), "2 scores for 1 responses"),
        (lambda: Odd([float("nan")]), "a score is NaN"),
        (lambda: Odd(["3"]), "no number but str"),
        (lambda: Odd(None), "TypeError"),
        (lambda: Odd(asyncio.CancelledError()), "was cancelled"),
        (NotAsync, "TypeError"),
    ],
)
async def test_a_failure_is_one_clear_error(reward: Any, reason: str) -> None:
    with pytest.raises(RewardError, match=reason) as caught:
        await Counted("odd", reward()).score([answer("a")])
    assert (caught.value.reward, caught.value.status) == ("odd", 502)
    assert str(caught.value).startswith("reward 'odd': ")


async def test_a_reward_that_takes_too_long_is_given_up() -> None:
    reward = MadeUp(held=True, timeout=0.01)
    with pytest.raises(RewardError, match=r"took over 0\.01 s") as caught:
        await Counted("slow", reward).score([answer("a")])
    assert caught.value.status == 504
    assert reward.running == 0
    assert left_running() == []


async def test_the_fault_of_one_call_is_not_anothers() -> None:
    def by(one: Candidate) -> float:
        return {"good": 1.0, "bad": float("nan")}[one.text]

    reward = MadeUp(by)
    counted, spent = Counted("picky", reward), Spent()
    first, faulty, last = await asyncio.gather(
        counted.score([answer("good")], spent),
        counted.score([answer("good"), answer("bad")]),
        counted.score([answer("good")]),
        return_exceptions=True,
    )
    assert isinstance(faulty, RewardError)
    assert (first, last) == ((1,), (1,))
    assert reward.batches[0] == ["good", "good", "bad", "good"]
    assert spent == Spent(1, 4)  # a second try is nobody's to pay


class Slow(MadeUp):
    """Never scores a batch with the response `slow`."""

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        self.running += 1
        try:
            if any(one.text == "slow" for one in candidates):
                await asyncio.Event().wait()
            return await super().score(candidates)
        finally:
            self.running -= 1


async def test_a_batch_that_nobody_waits_for_makes_way_for_the_next() -> None:
    reward = Slow(timeout=1e6)
    counted = Counted("slow", reward)
    leaving = asyncio.create_task(counted.score([answer("slow")]))
    await until(lambda: reward.running)
    staying = asyncio.create_task(counted.score([answer("ab")]))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert await staying == (2,)
    assert reward.running == 0


async def test_the_delay_of_one_call_is_not_anothers() -> None:
    counted = Counted("slow", Slow(timeout=0.01))
    results = await asyncio.gather(
        counted.score([answer("slow")]), counted.score([answer("ab")]), return_exceptions=True
    )
    assert isinstance(results[0], RewardError)
    assert results[0].timed_out
    assert results[1] == (2,)


async def test_who_no_longer_waits_takes_no_score_from_others() -> None:
    reward = MadeUp(held=True)
    counted = Counted("length", reward)
    leaving, staying = (asyncio.create_task(counted.score([answer(text)])) for text in ("a", "ab"))
    await until(lambda: reward.running)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert reward.running == 1
    reward.go_on.set()
    assert await staying == (2,)


async def test_once_nobody_waits_nothing_runs() -> None:
    reward = MadeUp(held=True)
    counted = Counted("length", reward)
    calls = [asyncio.create_task(counted.score([answer("a")])) for _ in range(2)]
    await until(lambda: reward.running)
    assert len(left_running()) == 2
    calls.append(asyncio.create_task(counted.score([answer("late")])))
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert reward.running == 0
    assert left_running() == []
    reward.go_on.set()
    assert await counted.score([answer("abc")]) == (3,)
    assert reward.batches == [["a", "a"], ["abc"]]


async def test_a_call_that_left_before_its_batch_is_not_scored() -> None:
    reward, spent = MadeUp(held=True), Spent()
    counted = Counted("length", reward)
    first = asyncio.create_task(counted.score([answer("a")]))
    await until(lambda: reward.running)
    leaving = asyncio.create_task(counted.score([answer("gone")], spent))
    staying = asyncio.create_task(counted.score([answer("ab")]))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    reward.go_on.set()
    assert (await first, await staying) == ((1,), (2,))
    assert reward.batches == [["a"], ["ab"]]
    assert spent == Spent()


async def test_at_the_end_of_the_server_nobody_is_left_waiting() -> None:
    reward = MadeUp(held=True)
    counted = Counted("length", reward)
    call = asyncio.create_task(counted.score([answer("a")]))
    await until(lambda: reward.running)
    await counted.close()
    with pytest.raises(RewardError, match="shutting down") as caught:
        await call
    assert caught.value.status == 503
    assert (reward.closed, reward.running, left_running()) == (True, 0, [])


async def test_once_it_is_refused_nobody_waits_for_a_reward_that_hangs() -> None:
    hung, quick = MadeUp(held=True), MadeUp()
    rewards = Rewards({"hung": hung, "quick": quick})
    terms = (RewardTerm(name="quick"), RewardTerm(name="hung"))
    asked = rewards.asked(terms, "reward")
    call = asyncio.create_task(asked.score([answer("a")]))
    await until(lambda: hung.running)
    rewards.refuse("the server is full of sand")
    with pytest.raises(RewardError, match="reward 'hung': the server is full of sand") as caught:
        await call
    assert caught.value.status == 503
    await until(lambda: not left_running())
    with pytest.raises(RewardError, match="sand"):
        await rewards.asked(terms[:1], "reward").score([answer("a")])
    assert (hung.running, quick.batches) == (0, [["a"]])


async def test_a_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(RewardError):
        await Counted("odd", Odd(KeyError("x"))).score([answer("a")])
    assert "reward 'odd': failed: KeyError" in caplog.text
    assert "Traceback" in caplog.text


async def test_batches_and_their_faults_are_counted_by_reward() -> None:
    registry = CollectorRegistry()
    broken, slow = MadeUp(lambda one: math.nan), MadeUp(held=True, timeout=0.001)
    rewards = {"good": MadeUp(), "broken": broken, "slow": slow}
    counting = RewardCounting(registry, rewards)
    for name, reward in rewards.items():
        counted = Counted(name, reward)
        counted.counting = counting
        with contextlib.suppress(RewardError):
            await counted.score([answer("a")])

    def batches(name: str) -> float:
        return total(registry, "steersman_reward_seconds_count", reward=name)

    def faults(name: str) -> list[float]:
        kinds = ("failed", "timeout")
        return [
            total(registry, "steersman_reward_errors_total", reward=name, fault=kind)
            for kind in kinds
        ]

    assert [batches(name) for name in rewards] == [1, 1, 1]
    assert [faults(name) for name in rewards] == [[0, 0], [1, 0], [0, 1]]
