"""Chains over whole responses: their stationary distribution, and steps that are drawn ahead."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest

from steersman.errors import ControlError
from steersman.laws import ToySource
from steersman.ledger import Ledger
from steersman.request import Endpoint, Request
from steersman.search.align import AlignPolicy
from steersman.search.chain import Chain, effective
from steersman.search.policy import Search
from steersman.search.select import select
from steersman.search.target import Power, delta
from steersman.trajectory.reading import Reading
from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import Piece, Start, Trajectory
from steersman_client import Align
from steersman_kernels.layout import Value
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

CHAT = Request(Endpoint.CHAT)
LONGEST = 3
WORDS = 2
END = WORDS  # the token that ends a response, unless a request says otherwise
NAN = math.nan
ALPHAS = (0.5, 2.0, 4.0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def spec(**fields: Any) -> Align:
    return Align.model_validate(
        {"method": "align", "target": {"power": 4.0}, **fields}, strict=True
    )


def distribution(before: Sequence[int], alpha: float) -> list[float]:
    """Probabilities of the two words and of the end, at temperature 1 / alpha."""
    random = Random(f"p {[*before]}")
    logits = [3 * random.random() for _ in range(WORDS + 1)]
    weights = [math.exp(alpha * x) for x in logits]
    return [weight / sum(weights) for weight in weights]


def responses(ends: Collection[int] = (END,)) -> Iterator[tuple[int, ...]]:
    """All responses: those that end at one of some tokens, and those that are cut off."""
    others = [token for token in range(WORDS + 1) if token not in ends]
    for length in range(LONGEST):
        for words in product(others, repeat=length):
            for end in ends:
                yield (*words, end)
    yield from product(others, repeat=LONGEST)


def probability(response: Sequence[int], begin: int, alpha: float) -> float:
    """Of the tokens from one on, given those before."""
    places = range(begin, len(response))
    return math.prod(distribution(response[:i], alpha)[response[i]] for i in places)


def packed(before: Sequence[int], token: int, alpha: float) -> bytes:
    raw, drawn = (math.log(distribution(before, a)[token]) for a in (1.0, alpha))
    return Value(NAN, raw, NAN, NAN, drawn, NAN, 0, closed_by=0, forced=0).packed()


def trajectory(response: Sequence[int], alpha: float) -> Trajectory[str]:
    """A response as the engine measures it."""
    one: Trajectory[str] = Trajectory(Start(0))
    one.add(Piece(tuple(response), str(alpha), "stop", ""))
    values = [packed(response[:i], token, alpha) for i, token in enumerate(response)]
    one.track = Track([*response], values)
    return one


Ratio = Callable[[Power, Trajectory[str], Trajectory[str], int], float]


def off_by(alpha: float, ratio: Ratio, ends: Collection[int] = (END,)) -> float:
    """Largest change of the target's shares in one step of the chain that accepts by a ratio."""
    states = list(responses(ends))
    ways = [trajectory(y, alpha) for y in states]
    weights = np.array([probability(y, 0, 1.0) ** alpha for y in states])
    stationary = weights / weights.sum()
    matrix = np.zeros((len(states), len(states)))
    for (i, y), (j, new) in product(enumerate(states), repeat=2):
        for cut in range(len(y)):
            if y[:cut] == new[:cut]:
                proposed = probability(new, cut, alpha) / len(y)
                accepted = proposed * min(1.0, math.exp(ratio(Power(alpha), ways[i], ways[j], cut)))
                matrix[i, j] += accepted
                matrix[i, i] += proposed - accepted
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-12)
    return float(np.abs(stationary @ matrix - stationary).max())


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements in float64: the law is of the acceptance, not of the number type."""

    def logprobs(state: Trajectory[str], begin: int) -> tuple[float, float]:
        response, alpha = state.token_ids, float(state.text)
        raw, drawn = probability(response, begin, 1.0), probability(response, begin, alpha)
        return math.log(raw), math.log(drawn)

    monkeypatch.setattr(Power, "_logprobs", staticmethod(logprobs))


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_target_is_stationary(alpha: float) -> None:
    assert len(list(responses())) == 15
    assert off_by(alpha, delta) <= 1e-12


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(("ends", "states"), [((END, 0), 7), ((0,), 15), ((), 27)])
def test_it_is_wherever_a_request_has_responses_end(ends: tuple[int, ...], states: int) -> None:
    """With `stop_token_ids`, and with `ignore_eos`: no token has another distribution."""
    assert len(list(responses(ends))) == states
    assert off_by(4.0, delta, ends) <= 1e-12


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("alpha", ALPHAS)
def test_it_is_not_without_the_lengths_or_with_another_proposal(alpha: float) -> None:
    def without_lengths(
        target: Power, state: Trajectory[str], new: Trajectory[str], cut: int
    ) -> float:
        return target.log_ratio(state, new, cut)

    def of_the_model(
        target: Power, state: Trajectory[str], new: Trajectory[str], cut: int
    ) -> float:
        raw, new_raw = (target._logprobs(one, cut)[0] for one in (state, new))
        lengths = math.log(state.tokens) - math.log(new.tokens)
        return (target.alpha - 1) * (new_raw - raw) + lengths

    assert off_by(alpha, without_lengths) > 1e-4
    assert off_by(alpha, of_the_model) > 1e-4


class Model(ToySource):
    """Draws from `distribution`."""

    def __init__(self, seed: int = 0, alpha: float = 4.0, **options: Any) -> None:
        super().__init__(seed, **{"longest": LONGEST, **options})
        self.alpha = alpha

    def draws(self, seed: int, before: Sequence[int]) -> tuple[int, bool]:
        shares = distribution(before, self.alpha)
        (token,) = Random(f"u {seed} {len(before)}").choices(range(WORDS + 1), shares)
        return token, token == END

    def measured(self, before: Sequence[int], token: int) -> Value:
        return Value.of(packed(before, token, self.alpha))


async def walked(source: ToySource, steps: int, ahead: int | None) -> Chain[str]:
    ledger = Ledger()
    search: Search[str] = Search(source, 1, Reading(), ledger.open().branches)
    alpha = source.alpha if isinstance(source, Model) else 4.0
    chain = Chain(search, Power(alpha), 0, steps, ahead)
    await chain.run()
    assert source.running == 0
    return chain


async def test_a_chain_is_the_same_however_far_it_looks_ahead() -> None:
    for seed in range(40):
        one = await walked(Model(seed), 30, 1)
        tokens = [state.token_ids for state in one.states]
        assert len(tokens) == 31
        for ahead in (2, 5, None):
            for room in (1, 1000):
                other = await walked(Model(seed, room=room), 30, ahead)
                assert [state.token_ids for state in other.states] == tokens
                assert [step.accepted for step in other.made] == [s.accepted for s in one.made]


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("alpha", ALPHAS)
async def test_shares_of_a_chain_are_those_of_the_target(alpha: float, ahead: int) -> None:
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(60):
        chain = await walked(Model(seed, alpha), 100, ahead)
        counts.update(tuple(state.token_ids) for state in chain.states[10:])
    weights = {y: probability(y, 0, 1.0) ** alpha for y in responses()}
    total, drawn = sum(weights.values()), counts.total()
    distance = sum(abs(counts[y] / drawn - weights[y] / total) for y in weights) / 2
    assert distance < 0.03  # 5,460 states of 60 chains


async def test_what_is_thrown_away_is_aborted_and_counted() -> None:
    ledger = Ledger()
    source = Model(3, longest=LONGEST)
    generation = ledger.open()
    search: Search[str] = Search(source, 1, Reading(), generation.branches)
    generation.outcome = await AlignPolicy().run(spec(steps=100, look_ahead=5), search)
    generation.started.extend(source.started)
    compute = ledger.compute()
    parts = compute.returned_tokens, compute.cancelled_tokens, compute.lost_tokens
    assert sum(parts) == compute.sampled_tokens
    assert min(parts) >= 0
    applied = generation.outcome.applied
    assert applied["steps"] == 100
    assert 0 < applied["acceptance"] < 1
    assert applied["resampled_tokens"] <= compute.sampled_tokens
    assert source.running == 0


async def test_a_chain_that_is_stopped_returns_what_it_has() -> None:
    source = Model(5)
    search: Search[str] = Search(source, 1, Reading())
    task = asyncio.create_task(AlignPolicy().run(spec(steps=4000, look_ahead=2), search))
    while len(search.started) < 30:
        await asyncio.sleep(0)
    while not task.done():
        await search.stop()
        await asyncio.sleep(0)
    outcome = task.result()
    assert outcome.winners[0].finished
    assert 0 < outcome.applied["steps"] < 4000
    assert source.running == 0


async def test_one_that_is_stopped_before_its_first_state_returns_that() -> None:
    source = Model(5)
    search: Search[str] = Search(source, 1, Reading())
    task = asyncio.create_task(AlignPolicy().run(spec(), search))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await search.stop()
    outcome = await task
    assert (outcome.decided_by, len(outcome.winners)) == ("fallback", 1)


async def test_an_error_or_a_cancellation_leaves_nothing() -> None:
    failing = Model(1, fails_at=1)
    with pytest.raises(ConnectionError):
        await AlignPolicy().run(spec(chains=3), Search(failing, 1, Reading()))
    assert failing.running == 0
    full = Model(1)
    full.refuses_forks = True  # the engine's queue
    with pytest.raises(ConnectionError, match="the queue is full"):
        await AlignPolicy().run(spec(chains=3), Search(full, 1, Reading()))
    assert full.running == 0
    source = Model(1)
    task = asyncio.create_task(
        AlignPolicy().run(spec(steps=4000, chains=2), Search(source, 1, Reading()))
    )
    while len(source.started) < 20:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert source.running == 0


def answered(text: str, tokens: int = 1) -> Trajectory[str]:
    one: Trajectory[str] = Trajectory(Start(0))
    one.add(Piece((0,) * tokens, text, "stop", text))
    return one


def test_selections() -> None:
    seven, also, eight, none = (
        answered(text) for text in (r"so \boxed{7}", r"it is \boxed{7}", r"\boxed{8}", "")
    )
    states = [eight, eight, seven, also, also, none, none, none]
    reading, value = Reading(), {seven: 1.0, also: 2.0, eight: 5.0, none: 4.0}.__getitem__
    assert select(states, "majority", reading, value) == (also, "majority")
    assert select(states, "last", reading, value) == (none, "last")
    assert select(states, "best", reading, value) == (eight, "best")
    alike = [answered(text) for text in ("a b c", "a b d", "x y", "a b c d")]
    assert select(alike, "mbr", reading, lambda _: 0.0) == (alike[3], "mbr")
    silent = [answered("") for _ in range(3)]
    assert select(silent, "majority", reading, lambda _: 0.0)[1] == "mbr"


def test_effective_samples() -> None:
    assert effective([1, 1, 1, 1]) == 4
    assert effective([10]) == 1
    assert effective([]) == 0


@pytest.mark.parametrize(
    ("fields", "request_", "field"),
    [
        ({"target": {"power": 1.0}}, CHAT, "control.search.target.power"),
        ({"target": {"power": 0.4}}, CHAT, "control.search.target.power"),
        ({"target": {"power": 101.0}}, CHAT, "control.search.target.power"),
        ({"target": {}}, CHAT, "control.search.target"),
        ({"steps": 0}, CHAT, "control.search.steps"),
        ({"steps": 4, "burn_in": 4}, CHAT, "control.search.burn_in"),
        ({"chains": 9}, CHAT, "control.search.chains"),
        ({}, Request(Endpoint.CHAT, choices=2), "n"),
        ({}, Request(Endpoint.CHAT, temperature=0.7), "temperature"),
        ({}, Request(Endpoint.CHAT, temperature=0.0), "temperature"),
        ({}, Request(Endpoint.CHAT, truncated="top_p"), "top_p"),
    ],
)
def test_bad_requests_are_refused_by_field(
    fields: dict[str, Any], request_: Request, field: str
) -> None:
    control = {"search": {"method": "align", "target": {"power": 4.0}, **fields}}
    with pytest.raises(ControlError) as caught:
        planner(measuring=True).plan(control, request_)
    assert caught.value.param == field


@pytest.mark.parametrize(
    "beside", [{"sampler": {"method": "cautious"}}, {"thinking": {"budget": 9}}]
)
def test_what_changes_the_distribution_is_refused(beside: dict[str, Any]) -> None:
    control = {"search": {"method": "align", "target": {"power": 4.0}}, **beside}
    with pytest.raises(ControlError) as caught:
        planner(measuring=True).plan(control, CHAT)
    assert caught.value.param == f"control.{next(iter(beside))}"
