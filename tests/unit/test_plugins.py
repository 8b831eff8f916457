"""Methods of other packages: a search, a sampler and a reward that no file of this one names."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from steersman import plugins, schema
from steersman.controls.sampler import SamplerPart
from steersman.controls.search import SearchPart
from steersman.errors import ControlError
from steersman.laws import (
    ToySource,
    assert_policy_laws,
    assert_reward_laws,
    assert_sampler_laws,
)
from steersman.ledger import Ledger
from steersman.needs import Need
from steersman.plan import Planner
from steersman.request import Endpoint, Request
from steersman.reward import registry as rewards
from steersman.reward.candidate import Candidate
from steersman.reward.file import RewardFileError
from steersman.reward.reward import Reward, RewardSpec
from steersman.reward.rewards import Asked, Rewards
from steersman.sampling import registry as samplers
from steersman.sampling.sampler import Sampler
from steersman.search import registry as searches
from steersman.search.policy import Policy, Search
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.together import ends
from steersman.trajectory.trajectory import Piece, Prefix, Source, Start, Trajectory
from steersman_client import Rewards as RewardsField
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

CHAT = Request(Endpoint.CHAT, temperature=1.0)
PAGE = Path(__file__).resolve().parents[2] / "docs/plugins.md"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Longest(Part):
    """Of n branches the longest."""

    method: Literal["longest"]
    n: int = Field(default=4, ge=1)


class LongestPolicy(Policy[Longest]):
    """Best of n, by a reward that is the length."""

    spec = Longest
    needs = frozenset({Need.SAMPLING})

    def branches(self, spec: Longest) -> int:
        return spec.n

    async def run(self, spec: Longest, search: Search[Any]) -> Outcome[Any]:
        ended = [one async for one in ends(search.start_branches(spec.n))]
        best = sorted(ended, key=lambda one: -one.tokens)
        return Outcome(tuple(best[: search.choices]), "reward", {"lengths": best[0].tokens})


class Hesitant(Part):
    """At each multiple of some tokens, the likelier of two ways on."""

    method: Literal["hesitant"]
    every: int = Field(default=3, ge=1)


class HesitantSampler(Sampler[Hesitant]):
    """Goes on by a fork wherever the fork's next token is the smaller one."""

    spec = Hesitant

    def wrap(self, spec: Hesitant, source: Source[Any], reading: Reading) -> Source[Any]:
        return HesitantSource(source, spec.every)


class HesitantSource:
    def __init__(self, source: Source[Any], every: int) -> None:
        self._source = source
        self._every = every
        self._inner: dict[Trajectory[Any], Trajectory[Any]] = {}

    def start_all(self, starts: Sequence[Start[Any]]) -> Sequence[Trajectory[Any]]:
        outer = [Trajectory(start) for start in starts]
        inner = self._source.start_all(starts)
        for one, engines in zip(outer, inner, strict=True):
            one.steps = self._steps(one, engines)
            self._inner[one] = engines
        return outer

    async def stop(self, trajectories: Sequence[Trajectory[Any]]) -> None:
        await self._source.stop([self._inner.get(one, one) for one in trajectories])

    async def close_thinking(self, trajectory: Trajectory[Any]) -> None:
        await self._source.close_thinking(trajectory)

    async def _steps(
        self, outer: Trajectory[Any], inner: Trajectory[Any]
    ) -> AsyncGenerator[Piece[Any], None]:
        trials: list[asyncio.Task[None]] = []
        try:
            async with contextlib.aclosing(aiter(inner)) as steps:
                async for piece in steps:
                    outer.add(piece)
                    yield piece
                    if inner.running and inner.tokens % self._every == 0:
                        trials.extend(self._look(outer, inner))
            await asyncio.gather(*trials)
        finally:
            for trial in trials:
                trial.cancel()
            await asyncio.gather(*trials, return_exceptions=True)

    def _look(self, outer: Trajectory[Any], inner: Trajectory[Any]) -> Iterator[asyncio.Task[None]]:
        prefix, seed = Prefix(inner, inner.tokens), 1000 + inner.tokens
        start = Start(outer.branch, prefix=prefix, seed=seed, max_tokens=1)
        with contextlib.suppress(ConnectionError):
            for trial in self._source.start_all([start]):
                yield asyncio.create_task(trial.run())


class ShoutSpec(RewardSpec):
    type: Literal["shout"]
    loudness: float = 1.0


class ShoutData(Part):
    word: str = Field(min_length=1)


class Shout(Reward[ShoutSpec]):
    """Counts the shouts of a word that the request gives."""

    spec = ShoutSpec
    data = ShoutData

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        loudness = self.options.loudness
        return [loudness * one.text.count(one.data.word.upper()) for one in candidates]


class Judged(Part):
    """A search with a field that names rewards."""

    method: Literal["judged"]
    reward: RewardsField


class JudgedPolicy(LongestPolicy):
    spec = Judged  # type: ignore[assignment]

    def branches(self, spec: Any) -> int:
        return 2


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Planner]:
    """A server beside which both packages are installed."""
    installed: dict[str, tuple[type, ...]] = {
        searches.GROUP: (LongestPolicy, JudgedPolicy),
        samplers.GROUP: (HesitantSampler,),
        rewards.GROUP: (Shout,),
    }
    caches: Any = (searches.policies, samplers.samplers, rewards.kinds, schema.control_spec)

    def entry_points(group: str) -> list[Any]:
        return [SimpleNamespace(load=lambda kind=kind: kind) for kind in installed[group]]

    monkeypatch.setattr(plugins, "entry_points", entry_points)
    for cache in caches:
        cache.cache_clear()
    yield planner()
    for cache in caches:
        cache.cache_clear()


BOTH = {"search": {"method": "longest", "n": 3}, "sampler": {"method": "hesitant", "every": 2}}


def test_they_are_planned_checked_and_described(server: Planner) -> None:
    plan = server.plan(BOTH, CHAT)
    assert (plan.method, plan.branches(1)) == ("longest", 3)
    assert plan.part(SamplerPart) is not None
    for control, request, param in (
        ({"search": {"method": "longest", "n": 0}}, CHAT, "control.search.n"),
        ({"search": {"method": "longest", "m": 1}}, CHAT, "control.search.m"),
        ({"sampler": {"method": "hesitant", "every": 0}}, CHAT, "control.sampler.every"),
        ({"sampler": {"method": "bold"}}, CHAT, "control.sampler.method"),
        ({"sampler": {"every": 2}}, CHAT, "control.sampler.method"),
        (BOTH, Request(Endpoint.CHAT, temperature=0.0), "temperature"),
        (BOTH, Request(Endpoint.CHAT, temperature=1.0, choices=4), "n"),
    ):
        with pytest.raises(ControlError) as caught:
            server.plan(control, request)
        assert caught.value.param == param
    described = json.dumps(schema.control_spec().model_json_schema())
    assert "longest" in described
    assert "hesitant" in described


async def test_they_run_together_and_are_in_the_receipt(server: Planner) -> None:
    plan = server.plan(BOTH, CHAT)
    searched = plan.part(SearchPart)
    assert searched is not None
    ledger, toy = Ledger(), ToySource(seed=5)
    generation, source = ledger.open(), toy
    for part in plan.parts:
        source = part.wrap(source, Reading())
    search: Search[str] = Search(source, 1, Reading(), generation.branches)
    generation.outcome = await searched.policy.run(searched.spec, search)
    generation.started.extend(toy.started)

    receipt = plan.receipt(ledger)

    assert receipt.applied.search is not None
    assert (receipt.applied.search.method, receipt.applied.search.launched) == ("longest", 3)
    assert receipt.applied.search.decided_by == "reward"
    longest = max(one.tokens for one in generation.branches)
    assert receipt.applied.search.model_dump()["lengths"] == longest
    compute = receipt.compute
    assert compute.returned_tokens == longest
    assert len(toy.started) > 3
    assert compute.lost_tokens == compute.sampled_tokens - longest
    assert compute.sequential_tokens >= longest


def asked_by(server: Planner, reward: object, kept: Rewards) -> Asked:
    """The rewards of a request, as a search would take them out of its plan."""
    plan = server.plan({"search": {"method": "judged", "reward": reward}}, CHAT)
    part = plan.part(SearchPart)
    assert part is not None
    assert isinstance(part.spec, Judged)
    return kept.asked(part.spec.reward, "control.search.reward")


async def test_a_reward_is_made_named_and_scored(server: Planner, tmp_path: Path) -> None:
    path = tmp_path / "rewards.yaml"
    path.write_text("loud: {type: shout, loudness: 2}")
    kept = Rewards.load(path)
    assert kept.names == ("likelihood", "loud", "verify")
    asked = asked_by(server, {"name": "loud", "data": {"word": "yes"}}, kept)
    assert await asked.score([Candidate("YES, YES!", "YES, YES!"), Candidate("no", "no")]) == (4, 0)


@pytest.mark.parametrize(
    ("reward", "param"),
    [
        ({"name": "loud"}, "control.search.reward[0].data.word"),
        ({"name": "loud", "data": {"word": ""}}, "control.search.reward[0].data.word"),
        (["loud"], "control.search.reward[0].data.word"),
        ({"name": "loud", "function": "os:remove"}, "control.search.reward[0].function"),
        (["verify", {"weight": 1}], "control.search.reward[1].name"),
        ([], "control.search.reward"),
    ],
)
def test_a_reward_that_is_named_wrongly_is_refused(
    server: Planner, tmp_path: Path, reward: Any, param: str
) -> None:
    path = tmp_path / "rewards.yaml"
    path.write_text("loud: {type: shout}")
    kept = Rewards.load(path)
    with pytest.raises(ControlError) as caught:
        asked_by(server, reward, kept)
    assert caught.value.param == param


def test_options_of_a_reward_are_its_own(server: Planner, tmp_path: Path) -> None:
    path = tmp_path / "rewards.yaml"
    path.write_text("loud: {type: shout, loudness: very}")
    with pytest.raises(RewardFileError, match=r"loud\.loudness: "):
        Rewards.load(path)


def test_they_keep_the_laws() -> None:
    assert_policy_laws(LongestPolicy(), lambda n: Longest(method="longest", n=n))
    assert_sampler_laws(HesitantSampler(), Hesitant(method="hesitant"))
    given = [Candidate(text, text, data=ShoutData(word="so")) for text in ("SO", "so", "SO SO")]
    assert_reward_laws(Shout(ShoutSpec(type="shout")), given)


def test_two_methods_of_one_name_stop_the_server(server: Planner) -> None:
    with pytest.raises(ValueError, match="'longest'"):
        plugins.registered(searches.GROUP, [LongestPolicy])
    with pytest.raises(ValueError, match="'shout'"):
        plugins.kinds(rewards.GROUP, [Shout], "type")


def test_without_the_package_there_is_no_such_method() -> None:
    with pytest.raises(ControlError, match="unknown method") as caught:
        planner().plan({"sampler": {"method": "hesitant"}}, CHAT)
    assert caught.value.param == "control.sampler.method"


def test_the_code_of_the_page_on_plugins_works(
    server: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page: dict[str, Any] = {"__name__": "page"}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(block, page)
    page["test_laws"]()

    kinds = {
        searches.GROUP: page["LongestPolicy"],
        samplers.GROUP: page["LadderSampler"],
        rewards.GROUP: page["BrevityReward"],
    }
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: [SimpleNamespace(load=lambda: kinds[group])]
    )
    (shown,) = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    plan = server.plan(json.loads(f"{{{shown}}}")["control"], CHAT)
    assert (plan.method, plan.branches(1)) == ("longest", 4)
    sampler = plan.part(SamplerPart)
    assert sampler is not None
    source = sampler.wrap(ToySource(), Reading())
    started = source.start_all([Start(0), Start(2)])
    assert [one.start.temperature for one in started] == [0.5, 0.7]
    (file,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    path = tmp_path / "rewards.yaml"
    path.write_text(file)
    (name,) = {*Rewards.load(path).names} - {*rewards.READY}
    assert name == "brief"
