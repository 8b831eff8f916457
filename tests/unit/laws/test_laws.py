"""The laws hold for what is built in, and each can be broken."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from steersman.laws import (
    ToySource,
    assert_policy_laws,
    assert_reward_laws,
    assert_sampler_laws,
)
from steersman.reward.candidate import Candidate
from steersman.reward.function import Function, FunctionSpec
from steersman.reward.likelihood import Likelihood, LikelihoodSpec
from steersman.reward.verify import Verify, VerifyData, VerifySpec
from steersman.sampling.sampler import Sampler
from steersman.search.policy import Policy, Search
from steersman.search.registry import policies
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.together import ends
from steersman.trajectory.trajectory import Source
from tests.unit.reward.made_up import MadeUp, answer, track


# The laws are of n samples that are chosen from; the laws of a chain are in `search/test_align.py`.
@pytest.mark.parametrize("method", sorted({*policies()} - {"align"}))
def test_every_search_keeps_the_laws(method: str) -> None:
    policy = policies()[method]
    assert_policy_laws(policy, lambda n: policy.spec(method=method, n=n))


class Spec(BaseModel):
    method: Literal["all"] = "all"
    n: int = 1


class Whole(Policy[Spec]):
    """Runs all branches, and returns the first ones; the broken ones override a part of it."""

    spec = Spec

    def branches(self, spec: Spec) -> int:
        return spec.n

    async def run(self, spec: Spec, search: Search[Any]) -> Outcome[Any]:
        started = search.start_branches(spec.n)
        async for _ in ends(started):
            pass
        return Outcome(tuple(started[: search.choices]), "all")


class TooFew(Whole):
    async def run(self, spec: Spec, search: Search[Any]) -> Outcome[Any]:
        outcome = await super().run(spec, search)
        return Outcome(outcome.winners[:1], "all")


class Twice(Whole):
    async def run(self, spec: Spec, search: Search[Any]) -> Outcome[Any]:
        outcome = await super().run(spec, search)
        return Outcome(outcome.winners[:1] * search.choices, "all")


class LeavesOneRunning(Whole):
    async def run(self, spec: Spec, search: Search[Any]) -> Outcome[Any]:
        started = search.start_branches(spec.n)
        async for one in ends(started[:-1] or started):
            last = one
        return Outcome((last, *started)[: search.choices], "all")


class Forgetful(Whole):
    seen = 0

    async def run(self, spec: Spec, search: Search[Any]) -> Outcome[Any]:
        outcome = await super().run(spec, search)
        Forgetful.seen += spec.n > 1
        best = sorted(search.started, key=lambda one: (one.branch + Forgetful.seen) % spec.n)
        return Outcome(tuple(best[: search.choices]), outcome.decided_by)


class LosesErrors(Whole):
    async def run(self, spec: Spec, search: Search[Any]) -> Outcome[Any]:
        try:
            return await super().run(spec, search)
        except ConnectionError:
            return Outcome((), "error")


class NotPlain(Whole):
    async def run(self, spec: Spec, search: Search[Any]) -> Outcome[Any]:
        started = search.start_branches(spec.n + 1)
        async for _ in ends(started):
            pass
        return Outcome(tuple(started[1:][: search.choices]), "all")


def test_a_search_that_only_chooses_keeps_the_laws() -> None:
    assert_policy_laws(Whole(), lambda n: Spec(n=n))


@pytest.mark.parametrize(
    ("policy", "law"),
    [
        (TooFew(), "as many"),
        (Twice(), "as many"),
        (LeavesOneRunning(), "still runs|as many"),
        (Forgetful(), "another answer"),
        (LosesErrors(), "error of the engine"),
        (NotPlain(), "not plain"),
    ],
)
def test_a_search_that_breaks_a_law_is_found(policy: Policy[Any], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        assert_policy_laws(policy, lambda n: Spec(n=n))


class Plain(Sampler[Spec]):
    spec = Spec

    def wrap(self, spec: Spec, source: Source[Any], reading: Reading) -> Source[Any]:
        return source


class Mixed(Plain):
    def wrap(self, spec: Spec, source: Source[Any], reading: Reading) -> Source[Any]:
        start_all = source.start_all
        source.start_all = lambda starts: start_all(starts)[::-1]  # type: ignore[method-assign]
        return source


class Unseeded(Plain):
    count = 0

    def wrap(self, spec: Spec, source: Source[Any], reading: Reading) -> Source[Any]:
        assert isinstance(source, ToySource)
        Unseeded.count += 1
        source._seed += Unseeded.count
        return source


def test_a_sampler_that_changes_nothing_keeps_the_laws() -> None:
    assert_sampler_laws(Plain(), Spec())


@pytest.mark.parametrize(("sampler", "law"), [(Mixed(), "mixed up"), (Unseeded(), "repeat")])
def test_a_sampler_that_breaks_a_law_is_found(sampler: Sampler[Any], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        assert_sampler_laws(sampler, Spec())


def words(candidates: Sequence[Candidate]) -> list[int]:
    return [len(one.text.split()) for one in candidates]


async def awaited_words(candidates: Sequence[Candidate]) -> list[int]:
    await asyncio.sleep(0)
    return words(candidates)


def function(name: str) -> Function:
    return Function(FunctionSpec(function=f"{__name__}:{name}"))


TEXTS = [answer(text) for text in ("a", "a b", "a b c", "")]
MEASURED = [
    answer("x", track=track((1.0, -mean, 0.5, 0), (2.0, -mean, 0.1 * mean, 0)))
    for mean in (1, 2, 3)
]
FACTS = [
    answer(text, data=VerifyData(reference="1/2", regex="2"))
    for text in (r"\boxed{0.5}", r"\boxed{\frac12}", "3", "2")
]


@pytest.mark.parametrize(
    ("reward", "candidates"),
    [
        (MadeUp, TEXTS),
        (lambda: function("words"), TEXTS),
        (lambda: function("awaited_words"), TEXTS),
        (lambda: Likelihood(LikelihoodSpec()), MEASURED),
        (lambda: Likelihood(LikelihoodSpec(by="confidence")), MEASURED),
        (lambda: Verify(VerifySpec()), FACTS),
    ],
)
def test_every_reward_keeps_the_laws(reward: Any, candidates: list[Candidate]) -> None:
    assert_reward_laws(reward(), candidates)


class MissesOne(MadeUp):
    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        return (await super().score(candidates))[:-1]


class SayNothing(MadeUp):
    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        return await super().score(candidates) or [0.0]


class Sorted(MadeUp):
    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        return sorted(await super().score(candidates))


class Relative(MadeUp):
    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        scores = await super().score(candidates)
        return [score - max(scores) for score in scores]


class Tired(MadeUp):
    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [score - len(self.batches) for score in await super().score(candidates)]


class LeavesATask(MadeUp):
    """Shields its work, which takes many steps, from cancellation."""

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        self.left = asyncio.ensure_future(self._work(candidates))
        return await asyncio.shield(self.left)

    async def _work(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        for _ in range(20):
            await asyncio.sleep(0)
        return await super().score(candidates)


class HandsOn(MadeUp):
    """Gives what runs to somebody else when it is cancelled."""

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.left = asyncio.ensure_future(asyncio.Event().wait())
            raise
        return await super().score(candidates)


class Spoilt(MadeUp):
    spoilt = False

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.spoilt = True
            raise
        return [score + self.spoilt for score in await super().score(candidates)]


@pytest.mark.parametrize(
    ("reward", "law"),
    [
        (MissesOne, "as many scores"),
        (SayNothing, "as many scores"),
        (lambda: MadeUp(lambda one: float("nan")), "NaN"),
        (lambda: MadeUp(lambda one: 1.0), "differ in their scores"),
        (Sorted, "order of candidates"),
        (Relative, "one by one"),
        (Tired, "repeated call"),
        (LeavesATask, "left something running"),
        (HandsOn, "left something running"),
        (Spoilt, "changes the next"),
    ],
)
def test_a_reward_that_breaks_a_law_is_found(reward: Any, law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        assert_reward_laws(reward(), TEXTS)
