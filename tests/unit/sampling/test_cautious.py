"""Cautious sampling: the trials that are drawn, the one that wins, what is left of the others."""

import asyncio
import math
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from steersman.errors import ControlError
from steersman.laws import ToySource, assert_sampler_laws
from steersman.laws.toy import WORDS
from steersman.request import Endpoint, Request
from steersman.sampling.cautious import CautiousSampler, CautiousSource
from steersman.sampling.trials import number_of_trials
from steersman.trajectory.phases import Markers
from steersman.trajectory.reading import Reading
from steersman.trajectory.seeds import derived
from steersman.trajectory.trajectory import Prefix, Start, Trajectory
from steersman_client import Cautious
from steersman_kernels.layout import Value
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

CHAT = Request(Endpoint.CHAT, temperature=1.0)
DEFAULT = Cautious(method="cautious")
MARKS = ("4", "\n")
READING = Reading(text_of=lambda token: WORDS[token])
END = 3
MARKERS = Markers(start=(9,), end=(END,), start_text="<t>", end_text="</t>")
NAN = math.nan


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def spec(**fields: Any) -> Cautious:
    return Cautious(**{"method": "cautious", "max_trials": 6, "stop_marks": MARKS, **fields})


class Model(ToySource):
    """Draws from a distribution that depends on all tokens before.

    Args:
        sharpness: The larger, the surer the model is on average.
        options: Those of the toy.

    """

    def __init__(self, seed: int = 0, *, sharpness: float = 2.0, **options: Any) -> None:
        super().__init__(seed, **options)
        self.sharpness = sharpness

    def distribution(self, before: Sequence[int]) -> list[float]:
        """Probabilities of the words, and last of the end."""
        random = Random(f"p {[*before]}")
        scale = self.sharpness * random.choice((0.2, 1, 4, 40))
        logits = [scale * random.random() for _ in range(len(WORDS) + 1)]
        weights = [math.exp(x - max(logits)) for x in logits]
        return [weight / sum(weights) for weight in weights]

    def draws(self, seed: int, before: Sequence[int]) -> tuple[int, bool]:
        probabilities = self.distribution(before)
        point = Random(f"u {seed} {len(before)}").random()
        if self._endless:
            return self._at(probabilities, point * (1 - probabilities[-1])), False
        drawn = self._at(probabilities, point)
        return min(drawn, len(WORDS) - 1), drawn == len(WORDS)

    @staticmethod
    def _at(probabilities: Sequence[float], point: float) -> int:
        total = 0.0
        for index, probability in enumerate(probabilities):
            total += probability
            if point < total:
                return index
        return len(probabilities) - 1

    def measured(self, before: Sequence[int], token: int) -> Value:
        probabilities = self.distribution(before)
        entropy = -sum(p * math.log(p) for p in probabilities)
        logprob = math.log(probabilities[token])
        return Value(NAN, NAN, NAN, entropy, logprob, NAN, 0, closed_by=0, forced=0)


def f32(number: float) -> float:
    """As it travels."""
    packed = Value(number, 0, 0, 0, 0, 0, 0, 0, 0).packed()
    return Value.of(packed).entropy


def transcribed(model: Model, seed: int, rules: Cautious, longest: int) -> list[int]:
    """The algorithm of the paper, one trial after another on a model that is asked directly."""
    line: list[int] = []
    stream = seed

    def draw(before: list[int], stream: int) -> tuple[int, float, bool]:
        token, last = model.draws(stream, before)
        logprob = f32(model.measured(before, token).processed_logprob)
        return token, logprob, last or len(before) + 1 == longest

    while True:
        probabilities = model.distribution(line)
        entropy = f32(-sum(p * math.log(p) for p in probabilities))
        place = (entropy - rules.min_entropy) / (rules.max_entropy - rules.min_entropy)
        if rules.schedule == "code":
            trials = int(1 + (rules.max_trials - 1) * min(max(place, 0.0), 1.0))
        else:
            trials = max(1, min(rules.max_trials, math.floor(rules.max_trials * place)))
        best: tuple[float, list[int], int, bool] | None = None
        at = len(line)
        for number in range(trials):
            own = stream if number == 0 else derived(seed, at, number)
            assert own is not None
            tokens: list[int] = []
            logprobs: list[float] = []
            while True:
                token, logprob, last = draw(line + tokens, own)
                tokens.append(token)
                logprobs.append(logprob)
                marked = any(mark in WORDS[token] for mark in rules.stop_marks or ())
                if last or trials == 1 or marked or len(tokens) == rules.max_trial_tokens:
                    break
            perplexity = math.exp(-sum(logprobs) / len(logprobs))
            if best is None or perplexity < best[0]:
                best = (perplexity, tokens, own, last)
        assert best is not None
        line += best[1]
        stream = best[2]
        if best[3]:
            return line


async def drawn(
    source: ToySource, rules: Cautious, reading: Reading = READING, start: Start[str] | None = None
) -> Trajectory[str]:
    (whole,) = CautiousSource(source, rules, reading).start_all([start or Start(0)])
    await whole.run()
    assert source.running == 0
    assert [token for piece in whole.pieces for token in piece.token_ids] == whole.token_ids
    for piece in whole.pieces:
        assert piece.text == "".join(WORDS[token] for token in piece.token_ids)
    assert whole.track is not None
    assert whole.track.token_ids == whole.token_ids
    assert len(whole.track.values) == len(whole.token_ids)
    return whole


@pytest.mark.parametrize("schedule", ["code", "paper"])
async def test_it_decides_as_the_algorithm_does(schedule: str) -> None:
    points = 0
    for seed in range(400):
        random = Random(seed)
        rules = spec(
            schedule=schedule,
            max_trials=random.choice((1, 2, 5, 9)),
            max_trial_tokens=random.choice((1, 2, 5, 64)),
            min_entropy=random.choice((0.01, 0.5)),
            stop_marks=random.choice(((), MARKS)),
        )
        room = random.choice((1, 2, 1000))
        sharpness = random.choice((0.5, 2, 8))
        together = random.choice((1, 1, 2, 5))
        model = Model(seed, sharpness=sharpness, longest=16, room=room, together=together)
        whole = await drawn(model, rules)
        assert whole.token_ids == transcribed(model, seed, rules, longest=16), f"seed {seed}"
        points += whole.sampling.branch_points
    assert points > 1000


async def test_one_trial_is_the_plain_trajectory() -> None:
    for seed in range(20):
        plain = ToySource(seed).start_all([Start(0)])[0]
        await plain.run()
        whole = await drawn(ToySource(seed), spec(max_trials=1))
        assert whole.token_ids == plain.token_ids
        assert whole.pieces == plain.pieces
        assert whole.finish_reason == plain.finish_reason
        assert whole.sampling.branch_points == 0


@pytest.mark.parametrize(
    ("entropy", "code", "paper"),
    [(NAN, 1, 1), (0.0, 1, 1), (0.01, 1, 1), (0.2, 2, 1), (0.75, 5, 4), (1.5, 10, 10), (9, 10, 10)],
)
def test_the_number_of_trials_follows_the_entropy(entropy: float, code: int, paper: int) -> None:
    assert number_of_trials(entropy, DEFAULT) == code
    of_paper = DEFAULT.model_copy(update={"schedule": "paper"})
    assert number_of_trials(entropy, of_paper) == paper


class Scripted(ToySource):
    """Trials whose tokens, and their log-probabilities, are told by their numbers.

    Args:
        trials: The tokens of each, with the log-probability of each; None is a forced token.

    """

    def __init__(self, *trials: Sequence[tuple[int, float | None]], **options: Any) -> None:
        super().__init__(longest=64, **options)
        self.trials = trials

    def _number(self, seed: int) -> int:
        seeds = {derived(0, 0, number): number for number in range(1, len(self.trials))}
        return seeds.get(seed, 0)

    def draws(self, seed: int, before: Sequence[int]) -> tuple[int, bool]:
        self.now = self.trials[self._number(seed)]
        return self.now[len(before)][0], len(before) + 1 == len(self.now)

    def measured(self, before: Sequence[int], token: int) -> Value:
        logprob = self.now[len(before)][1]
        entropy = 5.0 if not before else 0.0
        forced = logprob is None
        return Value(NAN, NAN, NAN, entropy, logprob or 0.0, NAN, 0, closed_by=0, forced=forced)


THREE = spec(max_trials=3, stop_marks=("4",))
STOP = 1  # " 4"


async def test_the_perplexity_is_of_the_drawn_tokens_and_counts_the_stop() -> None:
    # Means -1.0, -0.9 and -1.5: without its stop the last one would have -0.5.
    source = Scripted(
        [(0, -1.0), (STOP, -1.0), (2, -1)],
        [(2, -0.9), (STOP, -0.9), (0, -1)],
        [(4, -0.5), (STOP, -2.5), (5, -1)],
    )
    whole = await drawn(source, THREE)
    assert whole.token_ids == [2, STOP, 0]
    (trials,) = whole.sampling.trials
    assert (trials.at, trials.winner) == (0, 1)
    assert [round(one.logprob, 6) for one in trials.trials] == [-1.0, -0.9, -1.5]


async def test_forced_tokens_count_neither_in_the_sum_nor_in_the_length() -> None:
    source = Scripted(
        [(0, -1.0), (STOP, -1.0)],
        [(2, -0.8), (2, None), (2, None), (STOP, -1.0)],
        [(4, None), (STOP, None)],
    )
    whole = await drawn(source, THREE)
    assert whole.token_ids == [2, 2, 2, STOP]
    (trials,) = whole.sampling.trials
    assert [one.tokens for one in trials.trials] == [2, 4, 2]
    assert trials.trials[2].logprob is None


async def test_ties_go_to_the_lower_number_whoever_ends_first() -> None:
    source = Scripted(
        [(0, -1.0), (0, -1.0), (0, -1.0), (STOP, -1.0)], [(STOP, -1.0), (0, -1)], [(STOP, -1.0)]
    )
    assert (await drawn(source, THREE)).token_ids == [0, 0, 0, STOP]


async def test_a_trial_ends_with_the_thinking() -> None:
    reading = Reading(MARKERS, opened=True, text_of=lambda token: WORDS[token])
    source = Scripted(
        [(0, -1.0), (END, -1.0), (0, -9.0), (0, -9.0)],
        [(2, -2.0), (STOP, -2.0)],
        [(2, -3.0), (STOP, -3.0)],
    )
    whole = await drawn(source, THREE, reading)
    assert whole.sampling.trials[0].trials[0].tokens == 2
    assert whole.token_ids == [0, END, 0, 0]
    # In an answer the marker is a token like any other.
    answering = await drawn(source, THREE, Reading(MARKERS, text_of=reading.text_of))
    assert answering.sampling.trials[0].trials[0].tokens == 4


async def test_books_count_all_that_was_drawn() -> None:
    for seed in range(30):
        model = Model(seed, longest=16)
        whole = await drawn(model, spec())
        record = whole.sampling
        sampled = sum(one.sampled_tokens for one in model.started)
        assert record.lost_tokens == sampled - whole.tokens
        assert record.winners == record.branch_points == len(record.trials)
        assert record.trial_count == sum(len(one.trials) for one in record.trials)
        assert record.losers == record.trial_count - record.branch_points
        ways = [one for one in model.started if one.start.after or one is model.started[0]]
        assert max(one.sequential_tokens for one in ways) >= whole.tokens
        assert max(one.sequential_tokens for one in ways) <= sampled


async def test_what_waits_for_a_decision_counts_one_after_another() -> None:
    source = Scripted(
        [(0, -1.0), (STOP, -1.0)],
        [(2, -5.0), *[(2, -5.0)] * 5, (STOP, -5.0)],
        [(2, -5.0), (STOP, -5.0)],
    )
    await drawn(source, THREE)
    forks = source.started[1:]
    assert [fork.start.after for fork in forks] == [1, 1]


async def test_it_goes_on_where_forks_are_refused_or_fail() -> None:
    class Failing(Model):
        def start_all(self, starts: Sequence[Start[str]]) -> Sequence[Trajectory[str]]:
            trajectories = super().start_all(starts)
            for one in trajectories:
                if one.start.forked:
                    one.steps = self._fail()
            return trajectories

        async def _fail(self) -> Any:
            await asyncio.sleep(0)
            raise ConnectionError("the queue is full")
            yield

    plain = Model(3).start_all([Start(0)])[0]
    await plain.run()
    refusing = Model(3)
    refusing.refuses_forks = True
    for source in (refusing, Failing(3)):
        whole = await drawn(source, spec())
        assert whole.token_ids == plain.token_ids
        assert whole.sampling.degraded == whole.sampling.branch_points > 0


async def test_an_engine_that_dies_ends_it() -> None:
    source = Model(1, fails_at=3)
    (whole,) = CautiousSource(source, spec(), READING).start_all([Start(0)])
    with pytest.raises(ConnectionError):
        await whole.run()
    assert source.running == 0


class Faulty(Scripted):
    """Its trials fail at some of their tokens, each told by its number."""

    def __init__(self, *trials: Sequence[tuple[int, float | None]], faults: dict[int, int]) -> None:
        super().__init__(*trials)
        self.faults = faults

    def draws(self, seed: int, before: Sequence[int]) -> tuple[int, bool]:
        if self.faults.get(self._number(seed)) == len(before):
            raise ConnectionError("a fault")
        return super().draws(seed, before)


SHORT = [(STOP, -1.0)] + [(0, -1.0)] * 9


async def test_a_first_trial_that_has_lost_may_fail() -> None:
    source = Faulty([(STOP, -3.0)] * 9, SHORT, [(0, -5.0)] * 9, faults={0: 6})
    source._stopping = Deaf()
    assert (await drawn(source, THREE)).token_ids == [token for token, _ in SHORT]


class Deaf(set[Trajectory[str]]):
    """No trajectory that is stopped hears of it."""

    def update(self, *_: Any) -> None:
        pass


async def test_where_all_that_could_win_fail_the_error_is_raised() -> None:
    source = Faulty([(STOP, -3.0)] * 9, SHORT, [(0, -5.0)] * 9, faults={1: 3, 2: 5})
    (whole,) = CautiousSource(source, THREE, READING).start_all([Start(0)])
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(whole.run(), 20)


@pytest.mark.parametrize("trials", [1, 6])
async def test_an_engine_that_dies_ends_what_is_stopped(trials: int) -> None:
    source = Model(1, fails_at=9, endless=True, sharpness=0.1)
    wrapped = CautiousSource(source, spec(stop_marks=(), max_trials=trials), READING)
    (whole,) = wrapped.start_all([Start(0)])
    source._stopping = Deaf()
    task = asyncio.create_task(whole.run())
    while not (source.started[0].tokens if trials == 1 else whole.sampling.branch_points):
        assert not task.done()
        await asyncio.sleep(0)
    await wrapped.stop([whole])
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(task, 20)
    assert source.running == 0


async def test_what_never_began_can_be_stopped() -> None:
    source = Model(2, endless=True, longest=10_000, sharpness=0.1, room=1)
    wrapped = CautiousSource(source, spec(max_trial_tokens=8), READING)
    lines = wrapped.start_all([Start(0), Start(1)])
    tasks = [asyncio.create_task(one.run()) for one in lines]
    while not lines[0].sampling.branch_points:
        await asyncio.sleep(0)
    await wrapped.stop(lines)
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert all(one.aborted for one in lines)
    assert lines[0].tokens
    assert not lines[1].tokens
    assert source.running == 0


async def test_what_is_stopped_returns_what_it_has() -> None:
    source = Model(2, endless=True, longest=10_000, sharpness=0.1)
    wrapped = CautiousSource(source, spec(max_trial_tokens=8), READING)
    whole, other = wrapped.start_all([Start(0), Start(1)])
    tasks = [asyncio.create_task(one.run()) for one in (whole, other)]
    while whole.sampling.branch_points < 4:
        await asyncio.sleep(0)
    decided = [*whole.token_ids]
    await wrapped.stop([whole])
    await tasks[0]
    assert whole.aborted
    assert whole.token_ids[: len(decided)] == decided
    assert other.running
    await wrapped.stop([whole, other])
    await tasks[1]
    assert source.running == 0


async def test_it_can_go_on_from_a_prefix() -> None:
    source = Model(4, longest=24)
    first = source.start_all([Start(0)])[0]
    await first.run()
    start = Start(1, prefix=Prefix(first, 2), max_tokens=9)
    whole = await drawn(source, spec(), start=start)
    assert whole.token_ids[:2] == first.token_ids[:2]
    assert whole.tokens <= 11
    assert all(trials.at >= 2 for trials in whole.sampling.trials)


async def test_bare_trajectories_are_left_alone() -> None:
    source = Model(4)
    (probe,) = CautiousSource(source, spec(), READING).start_all([Start(0, bare=True)])
    assert probe is source.started[0]


def test_it_keeps_the_laws() -> None:
    assert_sampler_laws(CautiousSampler(), DEFAULT)
    assert_sampler_laws(CautiousSampler(), spec(max_trial_tokens=3))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"min_entropy": 1.5}, "min_entropy"),
        ({"min_entropy": -1.0}, "min_entropy"),
        ({"max_trials": 65}, "max_trials"),
        ({"max_trials": 0}, "max_trials"),
        ({"max_trial_tokens": 0}, "max_trial_tokens"),
        ({"stop_marks": ["a", ""]}, "stop_marks[1]"),
        ({"schedule": "mine"}, "schedule"),
        ({"trials": 3}, "trials"),
    ],
)
def test_bad_fields_are_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ControlError) as caught:
        planner().plan({"sampler": {"method": "cautious", **fields}}, CHAT)
    assert caught.value.param == f"control.sampler.{field}"
