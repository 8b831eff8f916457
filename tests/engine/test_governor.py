"""The thinking phase under limits, in a real engine: each fires where it should, and only there."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from steersman.steering.configuration import Term
from steersman.thinking.governing import Governing
from steersman.trajectory.boundaries import ends_segment
from steersman.wire import Law
from steersman_kernels.layout import REASONS
from tests.engine.conftest import Started
from tests.engine.host import HIDDEN, IMPLICIT, LAYERS, EngineProcess, Job, Result

QUESTIONS = tuple(f"{i}+{j}*3-{k}=?" for i in (6, 8) for j in (3, 5) for k in (2, 4))
OPTIONS = {"max_tokens": 200, "temperature": 1.0}


@pytest.fixture(scope="module")
def engine(started: Started) -> EngineProcess:
    engine = started()
    rng = np.random.default_rng(0)
    engine.load("v", {i: rng.normal(size=HIDDEN).astype(np.float32) for i in range(LAYERS)})
    return engine


def jobs(engine: EngineProcess, governing: Governing | None, **options: object) -> list[Job]:
    return [
        Job(
            engine.encode(question),
            options={**OPTIONS, "seed": number, **options},
            governing=governing,
        )
        for number, question in enumerate(QUESTIONS)
    ]


class Response:
    """A response, taken apart."""

    def __init__(self, engine: EngineProcess, result: Result) -> None:
        start, end = engine.token("<think>"), engine.token("</think>")
        tokens = list(result.tokens)
        self.opened = tokens.index(start)
        self.closed = tokens.index(end) if end in tokens else None
        self.thinking = tokens[self.opened + 1 : self.closed]
        self.answer = [] if self.closed is None else tokens[self.closed + 1 :]
        self.markers = tokens.count(start), tokens.count(end)
        self.closed_by = REASONS[result.values[-1].closed_by] if result.values else None
        self.forced = [bool(value.forced) for value in result.values]


def run(engine: EngineProcess, made: Sequence[Job]) -> list[Response]:
    return [Response(engine, result) for result in engine.run(*made)]


@pytest.fixture(scope="module")
def free(engine: EngineProcess) -> list[Response]:
    """Responses without limits."""
    return run(engine, jobs(engine, None))


@pytest.mark.parametrize(("budget", "grace"), [(0, 0), (1, 0), (20, 0), (20, 16), (100, 0)])
def test_a_budget_closes_and_an_answer_follows(
    engine: EngineProcess, free: list[Response], budget: int, grace: int
) -> None:
    texts = engine.texts()
    limited = run(engine, jobs(engine, Governing(budget=budget, grace=grace)))
    for response, without in zip(limited, free, strict=True):
        assert len(response.thinking) <= budget + grace
        assert response.markers == (1, 1)
        assert response.answer, "closed, and no answer"
        if response.closed_by == "model":
            # It had closed by itself: nothing fired, and nothing changed.
            assert response.thinking == without.thinking
            assert not any(response.forced)
            continue
        assert response.closed_by == "budget"
        assert response.closed is not None
        assert response.forced[response.closed]
        assert sum(response.forced) == 1
        spent = len(response.thinking)
        assert spent == budget + grace or (spent and ends_segment(texts[response.thinking[-1]]))
    fired = sum(response.closed_by == "budget" for response in limited)
    # Within the grace some close by themselves.
    assert fired <= sum(len(response.thinking) > budget for response in free)
    assert fired >= sum(len(response.thinking) > budget + grace for response in free)


def test_an_unlimited_request_is_left_alone(engine: EngineProcess, free: list[Response]) -> None:
    watching = Governing(budget=400, window=8, entropy_below=1e-9)
    for governed, without in zip(run(engine, jobs(engine, watching)), free, strict=True):
        if without.closed is None:
            assert governed.closed_by == "length"
            assert governed.thinking == without.thinking[: len(governed.thinking)]
            assert len(governed.answer) == 1
        else:
            assert governed.closed_by == "model"
            assert governed.thinking == without.thinking
            assert governed.answer == without.answer


def test_sure_thinking_is_left_at_the_end_of_a_line(engine: EngineProcess) -> None:
    texts = engine.texts()
    unsure = run(engine, jobs(engine, Governing(window=8, entropy_below=1e-6)))
    sure = run(engine, jobs(engine, Governing(window=8, entropy_below=5.0)))
    assert {response.closed_by for response in unsure} == {"model"}
    assert "entropy" in {response.closed_by for response in sure}
    for response in sure:
        if response.closed_by == "entropy":
            assert len(response.thinking) >= 8
            assert ends_segment(texts[response.thinking[-1]])
            assert response.answer


def test_thinking_goes_on_up_to_a_minimum(engine: EngineProcess, free: list[Response]) -> None:
    nudge = (engine.token("-"), engine.token("1"))
    longer = run(engine, jobs(engine, Governing(minimum=60, nudge=nudge)))
    assert any(len(response.thinking) < 60 for response in free)
    for response, without in zip(longer, free, strict=True):
        assert len(response.thinking) >= 60
        assert response.closed_by in ("model", "length")
        if len(without.thinking) < 60:
            place = response.opened + 1 + len(without.thinking)
            assert response.forced[place : place + 2] == [True, True]
            assert response.thinking[len(without.thinking) :][:2] == list(nudge)
        else:
            assert not any(response.forced)


def test_a_loop_is_closed_and_not_the_request(engine: EngineProcess) -> None:
    """A bias makes the model say one thing for ever, once it thinks."""
    bias = {engine.token("7"): 100.0, engine.token("<think>"): 100.0}
    for watching, closed_by in ((True, "loop"), (False, "length")):
        governing = Governing(on_loop=watching, min_answer=8)
        made = jobs(engine, governing, logit_bias=bias, max_tokens=120, temperature=0)
        for response in run(engine, [replace(job, opened=True) for job in made[:2]]):
            assert response.closed_by == closed_by
            assert response.closed is not None
            assert len(response.answer) >= 8


def test_what_is_called_a_loop_is_one(engine: EngineProcess, free: list[Response]) -> None:
    """This model goes round in circles by itself now and then."""
    for response, without in zip(
        run(engine, jobs(engine, Governing(on_loop=True))), free, strict=True
    ):
        loops = [
            period
            for period in range(1, 129)
            if len(response.thinking) >= max(3 * period, period + 32)
            and response.thinking[-max(2 * period, 32) :]
            == response.thinking[-max(2 * period, 32) - period : -period]
        ]
        assert (response.closed_by == "loop") == bool(loops)
        assert without.thinking[: len(response.thinking)] == response.thinking


def test_the_answer_cannot_end_before_it_is_long_enough(engine: EngineProcess) -> None:
    for response in run(engine, jobs(engine, Governing(budget=5, min_answer=30))):
        assert len(response.answer) >= 30


def test_a_balanced_vector_follows_the_entropy(engine: EngineProcess) -> None:
    law = Law("proportional", 0.2, 1.0, 0.0, 0.1, -0.5, 0.5, (0.65, 0.9), (0.0005, 0.01))
    term = Term("v", 1.0, phase="thinking", at="boundary")
    made = [replace(job, terms=(term,), monitored=True) for job in jobs(engine, Governing(law=law))]
    ends = [ends_segment(text) for text in engine.texts()]
    seen = set()
    for result in engine.run(*made):
        response = Response(engine, result)
        segment: list[float] = []
        strength = law.base
        first = response.opened + 1
        for place in range(first, first + len(response.thinking)):
            value, token = result.values[place], result.tokens[place]
            if not ends[token]:
                segment.append(value.entropy)
            elif segment:
                error = float(np.mean(segment)) - law.target
                strength = float(np.clip(law.base + law.gain * error, law.low, law.high))
                segment = []
            assert value.strength == pytest.approx(strength, abs=1e-5)
            seen.add(round(value.strength, 4))
        assert result.counts is not None
        wanted = sum(ends[token] for token in response.thinking)
        assert result.counts["thinking", True] == wanted
    assert len(seen) > 10


def test_a_balanced_strength_is_the_strength_that_is_applied(engine: EngineProcess) -> None:
    """A law that cannot move steers as its base does, to the token; and the answer not at all."""
    law = Law("proportional", 0.2, 0.0, 0.0, 8.0, -9.0, 9.0, (0.65, 0.9), (0.0005, 0.01))
    moved = Term("v", 1.0, phase="thinking")
    fixed = Term("v", 8.0, phase="thinking")
    answer = Term("v", 1.0, phase="answer", prompt=True)
    balanced = [replace(job, terms=(moved, answer)) for job in jobs(engine, Governing(law=law))]
    steered = [replace(job, terms=(fixed, answer)) for job in jobs(engine, None)]
    free = jobs(engine, None)
    mixed = engine.run(*balanced, *steered, *free)
    count, changed = len(free), 0
    for one, other, plain in zip(
        mixed[:count], mixed[count : 2 * count], mixed[2 * count :], strict=True
    ):
        assert one.tokens == other.tokens
        assert one.counts == other.counts
        changed += one.tokens != plain.tokens
    assert changed


def test_the_second_runner_is_governed_as_the_first(
    engine: EngineProcess, started: Started
) -> None:
    """Its kernels are interpreted here, so a little must do."""
    limits = (
        Governing(budget=12, grace=8),
        Governing(budget=0),
        Governing(window=6, entropy_below=5),
        None,
    )

    def found(engine: EngineProcess) -> list[object]:
        prompt, options = engine.encode(QUESTIONS[0]), {"max_tokens": 40}
        made = [Job(prompt, options=options, governing=limit) for limit in limits]
        return [(r.tokens, [v.closed_by for v in r.values]) for r in engine.run(*made)]

    governed = found(started("V2"))
    assert governed == found(engine)
    assert len({str(response) for response in governed}) > 2


def test_a_fork_goes_on_under_the_limits_of_the_whole(engine: EngineProcess) -> None:
    """A request that begins after generated tokens is governed and steered as if it had drawn
    them."""
    options = {"max_tokens": 60, "temperature": 0}
    prompt = engine.encode(QUESTIONS[0])
    term = Term("v", 0.2, phase="thinking")
    for limits in (
        Governing(budget=20),
        Governing(budget=12, min_answer=20),
        Governing(minimum=40, nudge=(engine.token("-"), engine.token("1"))),
        Governing(on_loop=True),
    ):
        [whole] = engine.run(Job(prompt, (term,), options, governing=limits))
        for cut in (3, 14, 23):
            if cut >= len(whole.tokens) - 1:
                continue
            left = {**options, "max_tokens": 60 - cut}
            begun = [*prompt, *whole.tokens[:cut]]
            job = Job(begun, (term,), left, origin=len(prompt), governing=limits)
            [fork] = engine.run(job)
            assert fork.tokens == whole.tokens[cut:]
            assert fork.counts == whole.counts
            assert fork.values[-1].closed_by == whole.values[-1].closed_by


def test_a_tool_call_ends_the_thinking(engine: EngineProcess) -> None:
    """The token that stands for one is drawn from the tenth on: nothing is put into the call."""
    term = Term("v", 0.1, phase="thinking")
    bias = {IMPLICIT[0]: 200.0}
    options = {"max_tokens": 30, "temperature": 0}
    prompt = engine.encode(QUESTIONS[0])
    [thinking] = engine.run(Job(prompt, options={**options, "max_tokens": 9}))
    begun = [*prompt, *thinking.tokens]
    for limits in (Governing(), Governing(budget=12)):
        [called] = engine.run(
            Job(
                begun,
                (term,),
                {**options, "max_tokens": 8, "logit_bias": bias},
                origin=len(prompt),
                governing=limits,
            )
        )
        assert called.tokens == IMPLICIT * 8
        assert not any(value.forced for value in called.values)
        assert REASONS[called.values[0].closed_by] == "model"
        assert called.counts is not None
        # The tokens of the call are read as the answer's; the last one drawn is not read.
        assert sum(called.counts.values()) == len(thinking.tokens) - 0
