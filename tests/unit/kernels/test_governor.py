"""The governor: the loop on a CPU against a request told as a story, the kernel against both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_kernels import governor_kernels as module
from steersman_kernels import layout as at
from steersman_kernels.governor import State, govern, replay
from steersman_kernels.layout import NEVER
from tests.unit.kernels import compiled, interpreted
from tests.unit.kernels.requests import (
    BOUNDARY,
    CAPACITY,
    OUTSIDE,
    STOPS,
    WORDS,
    Asked,
    Draw,
    Govern,
    Words,
    copy,
    step,
    table,
)

INTERPRETED = interpreted(module)

BOTH = pytest.mark.parametrize("function", [govern, INTERPRETED.govern_triton])


@dataclass
class Oracle:
    """One request, told as a story; it shares nothing with the code under test."""

    asked: Asked
    words: Words
    phase: int = field(init=False)
    drawn: list[int] = field(default_factory=list)
    thought: list[tuple[int, float]] = field(default_factory=list)
    opening: list[tuple[int, float]] = field(default_factory=list)
    markers: int = 0
    answered: int = 0
    queue: list[int] = field(default_factory=list)
    forcing: int = 0
    forced: int = 0
    closed_by: int = 0
    segment: list[tuple[float, float]] = field(default_factory=list)
    ends: list[tuple[int, float]] = field(default_factory=list)
    confidence: float | None = None
    error: float = 0.0
    strength: float = field(init=False)

    def __post_init__(self) -> None:
        self.phase = at.THINKING if self.asked.opened else at.BEFORE
        self.strength = self.asked.base

    def ended(self) -> bool:
        return bool(self.drawn) and self.drawn[-1] in BOUNDARY

    def completes(self, marker: Sequence[int], token: int) -> bool:
        length = len(marker)
        return length > 0 and [*self.drawn, token][-length:] == list(marker)

    def loops(self) -> bool:
        tokens = [token for token, _ in self.thought]
        for period in range(1, 129):
            run, place = 0, len(tokens) - 1
            while place >= period and tokens[place] == tokens[place - period]:
                run, place = run + 1, place - 1
            if run >= 2 * period and run >= 32:
                return True
        return False

    def reason(self, position: int) -> int:
        asked, count = self.asked, len(self.thought)
        if asked.budget != NEVER:
            if count >= asked.budget + asked.grace:
                return at.BY_BUDGET
            if count >= asked.budget and count > 0 and self.ended():
                return at.BY_BUDGET
        if position >= asked.latest:
            return at.BY_LENGTH
        if count < asked.minimum:
            return 0
        if asked.loop and self.loops():
            return at.BY_LOOP
        if asked.window and count >= asked.window and self.ended():
            last = [entropy for _, entropy in self.thought[-asked.window :]]
            if sum(last) / asked.window < asked.exit_below:
                return at.BY_ENTROPY
        return 0

    def opens_again(self, token: int) -> bool:
        """True if it goes on with a marker that the response begins with, opened as it is."""
        place, start = len(self.drawn), self.words.start
        begins = self.phase == at.THINKING and not self.thought and not self.forcing
        return begins and place == len(self.opening) < len(start) and start[place] == token

    def step(self, token: int, position: int, entropy: float, top: float) -> tuple[int, bool]:
        """Take a drawn token; the final one, and whether it was forced."""
        before = self.phase
        if self.queue:
            token, forced, natural = self.queue.pop(0), True, ""
            again = False
        else:
            again = self.opens_again(token)
            if not again and 0 < len(self.drawn) == len(self.opening) < len(self.words.start):
                self.thought, self.opening = self.opening, []  # it was no marker after all
            token, forced, natural = self.decide(token, position, again)
            again = again and not forced
        self.forced += forced
        if again:
            self.opening.append((token, entropy))
        elif before == at.THINKING and not natural and self.forcing != at.CLOSING:
            self.thought.append((token, entropy))
            if self.asked.law:
                self.steer(token, position, entropy, top)
        if natural == "marker":
            self.markers = min(len(self.words.end) - 1, len(self.thought))
        self.answered += before == at.ANSWER or natural == "call"
        if self.forcing and not self.queue:
            if self.forcing == at.CLOSING:
                self.phase = at.ANSWER
            self.forcing = self.forced = 0
        self.drawn.append(token)
        return token, forced

    def decide(self, token: int, position: int, again: bool) -> tuple[int, bool, str]:
        """The final token, whether it is forced, and by what the phase ends of itself."""
        ends = ""
        if self.phase == at.BEFORE and self.completes(self.words.start, token):
            self.phase = at.THINKING
            return token, False, ""
        if self.phase != at.ANSWER and not again:
            ends = "call" if token in self.words.implicit else ""
            ends = "marker" if self.completes(self.words.end, token) else ends
        if self.phase == at.THINKING and self.asked.governed:
            reason = self.reason(position)
            if again:
                reason = at.BY_LENGTH if position >= self.asked.latest else 0
            stop = token in self.words.stops
            if reason:
                self.closed_by = reason
                return self.force(at.CLOSING, self.words.closing), True, ""
            if (ends or stop) and len(self.thought) < self.asked.minimum and self.asked.nudge:
                return self.force(at.NUDGE, self.asked.nudge), True, ""
            if stop:
                self.closed_by = at.BY_MODEL
                return self.force(at.CLOSING, self.words.closing), True, ""
        if ends:
            self.closed_by = at.BY_MODEL if self.phase == at.THINKING else 0
            self.phase = at.ANSWER
        return token, False, ends

    def force(self, kind: int, tokens: Sequence[int]) -> int:
        self.forcing, self.queue = kind, list(tokens[1:])
        return tokens[0]

    def steer(self, token: int, position: int, entropy: float, top: float) -> None:
        if token not in BOUNDARY:
            self.segment.append((entropy, top))
            return
        if not self.segment:
            return
        asked, (low, high) = self.asked, self.asked.bounds
        mean = sum(entropy for entropy, _ in self.segment) / len(self.segment)
        sure = sum(top for _, top in self.segment) / len(self.segment)
        if asked.law == at.PROPORTIONAL:
            error = mean - asked.target
            wanted = asked.base + asked.gain * error + asked.integral_gain * (self.error + error)
            self.strength = min(max(wanted, low), high)
            push = asked.integral_gain * error
            if not (wanted > high and push > 0) and not (wanted < low and push < 0):
                self.error += error
        else:
            bottom, ceiling = asked.confidence
            variance = 0.0 if self.confidence is None else (sure - self.confidence) ** 2 / 4
            if sure < bottom and variance > asked.variance[1]:
                self.strength = high
            elif sure > ceiling and variance < asked.variance[0]:
                self.strength = low
            else:
                middle, half = (bottom + ceiling) / 2, (ceiling - bottom) / 2
                ratio = math.tanh(asked.steep * (sure - middle)) / math.tanh(asked.steep * half)
                self.strength = min(max(asked.base * (1 - ratio) / 2, low), high)
        self.confidence, self.segment = sure, []
        self.ends.append((position, self.strength))

    def ints(self) -> dict[int, int]:
        return {
            at.PHASE: self.phase,
            at.THOUGHT: len(self.thought) - self.markers,
            at.ANSWERED: self.answered,
            at.SEQUENCE: self.forcing,
            at.FORCED: self.forced,
            at.CLOSED_BY: self.closed_by,
            at.ENDED: int(self.ended()),
            at.SEEN: len(self.drawn),
            at.SEGMENT: len(self.segment),
            at.SEGMENTS: len(self.ends),
        }

    def check(self, state: State, slot: int) -> None:
        wanted = self.ints()
        assert {column: int(state.ints[slot, column]) for column in wanted} == wanted
        count = len(self.ends)
        assert state.ends[slot, :count].tolist() == [position for position, _ in self.ends]
        found = [*state.strengths[slot, :count].tolist(), float(state.floats[slot, at.STRENGTH])]
        wanted_strengths = [*(strength for _, strength in self.ends), self.strength]
        assert found == pytest.approx(wanted_strengths, rel=1e-4, abs=1e-5)
        assert float(state.floats[slot, at.ERROR]) == pytest.approx(self.error, rel=1e-4, abs=1e-5)


@dataclass(frozen=True)
class Script:
    """Some requests and the steps that they are in."""

    words: Words
    asked: list[Asked]
    steps: list[list[Draw]]
    random: Random
    types: dict[str, torch.dtype]


MARKERS = st.sampled_from(
    [
        Words(),
        Words(start=(1, 4), end=(5, 6), closing=(5, 6)),
        Words(start=(), end=(5, 6, 5), closing=(7, 5, 6, 5)),
        Words(start=(1,), end=(2,), closing=(8, 2), stops=()),
        Words(start=(), end=(), closing=(), stops=(9,)),
        Words(implicit=(7, 13)),
        Words(start=(1, 1, 4), end=(4, 6), closing=(5, 4, 6), implicit=(7,)),
    ]
)


def request(random: Random, words: Words) -> Asked:
    minimum = random.choice([0, 0, 1, 9, 45])
    return Asked(
        known=random.randint(0, 9),
        budget=random.choice([NEVER, NEVER, NEVER, 0, 1, 6, 40]),
        grace=random.choice([0, 1, 8]),
        minimum=minimum,
        latest=random.choice([NEVER, NEVER, NEVER, 0, 25, 60]),
        loop=random.random() < 0.5,
        window=random.choice([0, 0, 1, 4, 30, 256]),
        exit_below=random.choice([0.1137, 0.6131]),
        nudge=tuple(random.choices([3, 11, 12], k=random.randint(min(minimum, 1), 3))),
        governed=bool(words.closing) and random.random() < 0.75,
        opened=bool(words.end) and random.random() < 0.5,
        law=random.choice([0, at.PROPORTIONAL, at.CONFIDENCE_LAW]),
        gain=random.choice([0.0, 0.513, -1.37]),
        integral_gain=random.choice([0.0, 0.273, -0.871]),
    )


def tokens(random: Random, words: Words, length: int) -> list[int]:
    """A response that thinks in loops now and then, and whose markers are whole at times."""
    found = [*random.choices(WORDS, k=random.choice([0, 0, 1, 3])), *words.start]
    found = found[random.choice([0, 0, 1]) :]
    common = [*WORDS, *WORDS, *BOUNDARY]
    while len(found) < length:
        kind = random.random()
        if kind < 0.5:
            found += random.choices(common, k=random.randint(1, 8))
        elif kind < 0.7:
            block = random.choices(common, k=random.choice([1, 2, 3, 11, 17, 20]))
            found += block * random.randint(1, 4 + 34 // len(block))
        elif kind < 0.75:
            found += words.start
        elif kind < 0.8:
            found += words.end
        elif kind < 0.85:
            common_marks = [*words.start, *words.end, *words.implicit]
            found.append(random.choice([*STOPS, *OUTSIDE, *common_marks]))
    return found[:length]


@st.composite
def scripts(draw: st.DrawFn, longest: int = 110) -> Script:
    words, random = draw(MARKERS), Random(draw(st.integers(0, 10**6)))
    asked = [request(random, words) for _ in range(draw(st.integers(1, 3)))]
    waiting = {slot: tokens(random, words, longest) for slot in range(3)}
    position = {slot: max(each.known - random.randint(0, 3), 0) for slot, each in enumerate(asked)}
    # Moods that last: entropies in eighths and top probabilities in 64ths, exact in any order.
    moods = [([0.0, 0.125], [62, 63, 64]), ([0.25, 0.5], [45, 50, 60]), ([1.0, 2.5], [8, 15, 20])]
    mood = random.choice(moods)
    steps = []
    for _ in range(longest):
        line = []
        mood = mood if random.random() < 0.85 else random.choice(moods)
        for slot in random.sample(range(len(asked)), random.randint(1, len(asked))):
            if position[slot] < asked[slot].known:
                line.append(Draw(slot, position[slot], None))
            else:
                token, (entropies, tops) = waiting[slot].pop(0), mood
                numbers = random.choice(entropies), random.choice(tops) / 64
                line.append(Draw(slot, position[slot], token, *numbers))
            position[slot] += 1
        steps.append(line)
    types = {
        "token_type": draw(st.sampled_from([torch.int32, torch.int64])),
        "logits_type": draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16])),
    }
    return Script(words, asked, steps, random, types)


def play(function: Govern, script: Script) -> None:
    """Run a script, comparing every request with its oracle at each step."""
    state = table()
    oracles = [Oracle(asked, script.words) for asked in script.asked]
    for slot, asked in enumerate(script.asked):
        asked.take(state, slot, script.words.stops)
    for line in script.steps:
        before = copy(state)
        final, track = step(function, state, script.words, line, script.random, **script.types)
        for slot in set(range(CAPACITY)) - {draw.slot for draw in line if draw.token is not None}:
            for old, new in zip(before, state, strict=True):
                assert torch.equal(old[slot].view(torch.int32), new[slot].view(torch.int32))
        for draw, token, row in zip(line, final, track, strict=True):
            if draw.token is not None:
                oracle = oracles[draw.slot]
                wanted = oracle.step(draw.token, draw.position, draw.entropy, draw.top)
                assert (token, bool(row[at.T_FORCED])) == wanted
                oracle.check(state, draw.slot)


@given(scripts())
@settings(max_examples=30)
def test_on_a_cpu(script: Script) -> None:
    play(govern, script)


@given(scripts(longest=6))
@settings(max_examples=8)
def test_the_kernel(script: Script) -> None:
    play(INTERPRETED.govern_triton, script)


@given(scripts(), st.lists(st.integers(0, 109), min_size=4, max_size=4))
@settings(max_examples=12)
def test_the_kernel_from_any_state(script: Script, chosen: list[int]) -> None:
    """The kernel is too slow in the interpreter for long scripts: some steps of one each."""
    state = table()
    for slot, asked in enumerate(script.asked):
        asked.take(state, slot, script.words.stops)
    for number, line in enumerate(script.steps):
        twin, seed = copy(state), script.random.random()
        wanted = step(govern, state, script.words, line, Random(seed), **script.types)
        if number not in chosen:
            continue
        kernel = INTERPRETED.govern_triton
        found = step(kernel, twin, script.words, line, Random(seed), **script.types)
        assert found[0] == wanted[0]
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-5, equal_nan=True)
        for new, old in zip(twin, state, strict=True):
            torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-5, equal_nan=True)


def respond(
    function: Govern,
    asked: Asked,
    drawn: list[int],
    words: Words | None = None,
    led: int = 0,
    **step_types: float,
) -> tuple[list[int], State]:
    """Response to the tokens drawn for one request, from position 10 on.

    The CPU's loop goes through the first `led` of them: the interpreter is slow.
    """
    state, words = table(), words or Words()
    asked.take(state, 0, words.stops)
    final: list[int] = []
    for place, token in enumerate(drawn):
        draws = [Draw(0, 10 + place, token, **step_types)]
        by = govern if place < led else function
        final += step(by, state, words, draws, Random(place))[0]
    return final, state


def closed_by(state: State) -> int:
    return int(state.ints[0, at.CLOSED_BY])


@BOTH
def test_no_budget_closes_at_once(function: Govern) -> None:
    final, state = respond(function, Asked(budget=0), [11, 11, 3])

    assert final == [2, 11, 3]
    assert closed_by(state) == at.BY_BUDGET
    assert state.ints[0, [at.THOUGHT, at.ANSWERED, at.PHASE]].tolist() == [0, 2, at.ANSWER]


@BOTH
def test_grace_waits_for_the_end_of_a_sentence(function: Govern) -> None:
    asked = Asked(budget=2, grace=4)

    assert respond(function, asked, [11, 3, 11, 11])[0] == [11, 3, 2, 11]
    assert respond(function, asked, [11, 0, 12, 3, 12, 0, 0])[0] == [11, 0, 12, 3, 2, 0, 0]
    assert respond(function, asked, [11, 0, 12, 0, 12, 0, 0])[0] == [11, 0, 12, 0, 12, 0, 2]


@BOTH
@pytest.mark.parametrize("period", [1, 3, 16])
def test_a_loop_closes(function: Govern, period: int) -> None:
    block = [0, 11, 12, 12, 0, 3, 11, 11, 11, 3, 3, 0, 12, 3, 12, 11][:period]
    # The first token outside the loop, and the block until 32 tokens stand as one period before.
    looping = [8, *(block * 40)[: period + 32]]
    led = len(looping) - 2
    final, state = respond(function, Asked(loop=True), [*looping, 0], led=led)

    assert final == [*looping, 2]
    assert closed_by(state) == at.BY_LOOP
    assert respond(function, Asked(), [*looping, 0], led=led)[0] == [*looping, 0]


@BOTH
def test_a_settled_answer_closes_at_the_end_of_a_sentence(function: Govern) -> None:
    state, words, final = table(), Words(), []
    Asked(minimum=3).take(state, 0)
    for place, token in enumerate([11, 3, 11, 11, 3, 11]):
        state.ints[0, at.SETTLED] = int(place > 0)
        final += step(function, state, words, [Draw(0, 10 + place, token)], Random(place))[0]

    assert final == [11, 3, 11, 11, 3, 2]
    assert closed_by(state) == at.BY_CERTAINTY


@BOTH
def test_a_sure_window_closes_at_the_end_of_a_sentence(function: Govern) -> None:
    asked = Asked(window=3, exit_below=0.26)
    final, state = respond(function, asked, [11, 3, 11, 11, 3, 11], entropy=0.25)

    assert final == [11, 3, 11, 11, 3, 2]
    assert closed_by(state) == at.BY_ENTROPY
    drawn = [11, 3, 11, 11, 3, 11]
    assert respond(function, asked, drawn, entropy=0.5)[0] == drawn


@BOTH
def test_an_answer_must_fit(function: Govern) -> None:
    final, state = respond(function, Asked(latest=12, minimum=50), [11, 0, 12, 0])

    assert final == [11, 0, 2, 0]
    assert closed_by(state) == at.BY_LENGTH


@BOTH
def test_a_stop_inside_thinking_becomes_the_marker(function: Govern) -> None:
    words = Words(end=(5, 6), closing=(5, 6))
    final, state = respond(function, Asked(), [11, 9, 0, 9], words)

    assert final == [11, 5, 6, 9]
    assert closed_by(state) == at.BY_MODEL
    assert state.ints[0, [at.THOUGHT, at.ANSWERED]].tolist() == [1, 1]


@BOTH
def test_a_tool_call_closes_and_is_the_first_of_the_answer(function: Govern) -> None:
    words = Words(implicit=(7,))
    final, state = respond(function, Asked(budget=3), [11, 7, 0, 12, 0, 9], words)

    assert final == [11, 7, 0, 12, 0, 9]
    assert closed_by(state) == at.BY_MODEL
    assert state.ints[0, [at.THOUGHT, at.ANSWERED, at.PHASE]].tolist() == [1, 5, at.ANSWER]
    early, _ = respond(function, Asked(minimum=3, nudge=(12,)), [11, 7, 0, 7, 0], words)
    assert early == [11, 12, 0, 7, 0]


@BOTH
def test_a_marker_that_opens_what_the_prompt_opened_is_no_thought(function: Govern) -> None:
    final, state = respond(function, Asked(budget=2), [1, 11, 0, 12])
    assert final == [1, 11, 0, 2]
    assert state.ints[0, at.THOUGHT] == 2
    words = Words(start=(1, 4, 1))
    assert respond(function, Asked(budget=2), [1, 4, 1, 0, 0, 0], words)[0] == [1, 4, 1, 0, 0, 2]
    # Half a marker is a thought like any other.
    assert respond(function, Asked(budget=2), [1, 4, 0, 0], words)[0] == [1, 4, 2, 0]
    assert respond(function, Asked(budget=0), [1, 0], Words())[0] == [1, 2]
    assert respond(function, Asked(budget=0, latest=10), [1, 0], Words())[0] == [2, 0]


@BOTH
def test_an_early_end_becomes_the_nudge(function: Govern) -> None:
    final, state = respond(function, Asked(minimum=4, nudge=(12, 0)), [11, 2, 7, 9, 7, 2, 3])

    assert final == [11, 12, 0, 12, 0, 2, 3]
    assert closed_by(state) == at.BY_MODEL
    assert state.ints[0, at.THOUGHT] == 5


@BOTH
def test_who_is_only_watched_keeps_the_tokens(function: Govern) -> None:
    asked = Asked(budget=1, minimum=9, nudge=(12,), governed=False, opened=False)
    drawn = [11, 1, 11, 11, 9, 2, 3]
    final, state = respond(function, asked, drawn)

    assert final == drawn
    assert closed_by(state) == at.BY_MODEL
    assert state.ints[0, [at.THOUGHT, at.ANSWERED]].tolist() == [3, 1]


@BOTH
def test_entropy_moves_the_strength(function: Govern) -> None:
    asked = Asked(law=at.PROPORTIONAL, target=0.5, gain=0.5, base=0.25)
    _, state = respond(function, asked, [11, 11, 3, 11, 8], entropy=1.0)

    assert state.ends[0, :2].tolist() == [12, 14]
    assert state.strengths[0, :2].tolist() == [0.5, 0.5]


@BOTH
def test_confidence_moves_the_strength(function: Govern) -> None:
    """Hesitation after certainty is overthinking, lasting certainty underthinking."""
    asked = Asked(law=at.CONFIDENCE_LAW, base=0.5, confidence=(0.5, 0.75))
    state, words = table(), Words()
    asked.take(state, 0)
    for segment, top in enumerate([1.0, 1.0, 0.25, 0.25, 0.625]):
        for place, token in enumerate([0, 11, 3], 3 * segment):
            step(function, state, words, [Draw(0, place, token, top=top)], Random(place))

    assert state.ends[0, :5].tolist() == [2, 5, 8, 11, 14]
    low, high = asked.bounds
    wanted = [low, low, high, 0.25 * (1 + math.tanh(3.375) / math.tanh(1.125)), 0.25]
    assert state.strengths[0, :5].tolist() == pytest.approx(wanted, rel=1e-5)


@BOTH
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("law", [at.PROPORTIONAL, at.CONFIDENCE_LAW])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_measurement_that_is_no_number_gives_a_strength_within_the_bounds(
    function: Govern, law: int, odd: float
) -> None:
    asked = Asked(law=law, gain=0.5, integral_gain=0.25, base=0.25, confidence=(0.5, 0.75))
    state, words = table(), Words()
    asked.take(state, 0)
    for place, token in enumerate([11, 3, 11, 8]):
        draws = [Draw(0, place, token, entropy=0.625, top=0.625)]
        step(function, state, words, draws, Random(place))
        if place == 0:
            state.floats[0, [at.ENTROPY_SUM, at.CONFIDENCE_SUM]] = odd

    low, high = asked.bounds
    first, second = state.strengths[0, :2].tolist()
    assert low <= first <= high
    expected = 0.25 + 0.75 * 0.125 if law == at.PROPORTIONAL else 0.125
    assert second == pytest.approx(expected, rel=1e-5)  # one bad sentence spoils no other


@BOTH
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter computes with NumPy
@pytest.mark.parametrize("target", [3e38, 0.5])
@pytest.mark.parametrize("gain", [3e38, -3e38, math.inf])
@pytest.mark.parametrize("integral_gain", [3e38, -3e38, math.nan])
def test_no_gain_takes_the_strength_out_of_its_bounds(
    function: Govern, target: float, gain: float, integral_gain: float
) -> None:
    asked = Asked(law=at.PROPORTIONAL, target=target, gain=gain, integral_gain=integral_gain)
    _, state = respond(function, asked, [11, 3, 11, 3, 11, 8], entropy=1.0)

    low, high = asked.bounds
    for strength in state.strengths[0, :3].tolist():
        assert low - 1e-6 <= strength <= high + 1e-6


@BOTH
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_confidences_that_float32_cannot_tell_apart_give_a_strength(function: Govern) -> None:
    asked = Asked(law=at.CONFIDENCE_LAW, base=0.25, confidence=(0.625, 0.625 + 1e-12))
    _, state = respond(function, asked, [11, 3], top=0.625)

    assert asked.bounds[0] <= float(state.strengths[0, 0]) <= asked.bounds[1]


@BOTH
def test_an_empty_batch(function: Govern) -> None:
    state = table()
    before = copy(state)
    assert step(function, state, Words(), [], Random(0))[0] == []
    assert torch.equal(state.ints, before.ints)


def test_on_a_cpu_it_is_the_reference() -> None:
    assert respond(govern, Asked(budget=0), [11, 11])[0] == [2, 11]


@pytest.mark.parametrize("token_type", ["*i32", "*i64"])
@pytest.mark.parametrize("logits_type", ["*fp32", "*bf16", "*fp16"])
def test_the_kernel_compiles_for_a_gpu(
    token_type: str, logits_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    kernel = module._govern_kernel
    integers = [name for name in kernel.arg_names if name.endswith(("_length", "_size", "_stride"))]
    types = dict.fromkeys([*integers, "implicit_count", "vocabulary"], "i32")
    types |= {name: "*i32" for name in kernel.arg_names if name.endswith("_ptr")}
    types |= dict.fromkeys(["positions_ptr", "rows_ptr", "logit_rows_ptr"], "*i64")
    tables = ["floats_ptr", "window_ptr", "strengths_ptr", "statistics_ptr", "track_ptr"]
    types |= dict.fromkeys(tables, "*fp32")
    types |= {"boundary_ptr": "*i1", "sampled_ptr": token_type, "logits_ptr": logits_type}
    assert "ptx" in compiled(kernel, types, {"LAYOUT": at.FINGERPRINT})


@given(scripts(), st.integers(0, 110))
@settings(max_examples=30)
def test_a_request_that_begins_after_tokens_goes_on_as_if_it_had_drawn_them(
    script: Script, cut: int
) -> None:
    """If nothing but tokens decides, a replayed state is the state, and later tokens are the
    same. Tokens cannot tell what stood for an end that the model drew, while it is put there."""
    words = script.words
    asked = replace(script.asked[0], window=0, known=0, law=0)
    drawn = [11, *tokens(Random(cut), words, 120)]
    whole = table()
    asked.take(whole, 0, words.stops)
    final = []
    for place, token in enumerate(drawn[:cut]):
        draws = [Draw(0, 10 + place, token)]
        final += step(govern, whole, words, draws, Random(place))[0]
    by_model = int(whole.ints[0, at.CLOSED_BY]) in (0, at.BY_MODEL)
    if int(whole.ints[0, at.SEQUENCE]) and by_model:
        return

    begun = State.empty(1)
    asked.take(begun, 0, words.stops)
    replay(begun, words.tensors(), 10, torch.tensor(final, dtype=torch.int32))
    untold = {at.CLOSED_BY} | ({at.THOUGHT} if whole.ints[0, at.PHASE] == at.ANSWER else set())
    told = [column for column in range(at.INTS) if column not in untold]
    assert begun.ints[0, told].tolist() == whole.ints[0, told].tolist()
    seen = min(int(whole.ints[0, at.SEEN]), at.HISTORY)
    places = [(int(whole.ints[0, at.SEEN]) - 1 - age) % at.HISTORY for age in range(seen)]
    assert begun.recent[0, places].tolist() == whole.recent[0, places].tolist()
    again = table()
    for new, old in zip(again, begun, strict=True):
        new[0] = old[0]
    for place, token in enumerate(drawn[cut:], cut):
        draws = [Draw(0, 10 + place, token)]
        wanted = step(govern, whole, words, draws, Random(place))[0]
        assert step(govern, again, words, draws, Random(place))[0] == wanted
