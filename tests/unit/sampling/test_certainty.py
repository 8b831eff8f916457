"""Probes: a trajectory is asked for its answer at set lengths, and agreement settles it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from steersman.sampling import certainty
from steersman.sampling.certainty import Certainty, Prober
from steersman.thinking.governing import Probing
from steersman.trajectory.phases import Markers
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import Piece, Start, Trajectory

pytestmark = pytest.mark.anyio

START, END = 1, 2
MARKERS = Markers(start=(START,), end=(END,), start_text="<t>", end_text="</t>")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Thinker:
    """A trajectory that thinks on, and answers as it is told to."""

    def __init__(self, *answers: str, agree: int = 2, opened: bool = True) -> None:
        self.answers = [*answers]
        self.asked: list[int] = []
        self.refuses: Exception | None = None
        self.settled = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        probing = Probing(every=4, agree=agree, max_tokens=8)
        self.prober = Prober(probing, MARKERS, self.ask, self.settle, opened=opened)

    async def ask(self, token_ids: Sequence[int]) -> str:
        self.asked.append(len(token_ids))
        await self.goes_on.wait()
        return self.answers.pop(0)

    async def settle(self) -> None:
        self.settled += 1
        if self.refuses is not None:
            raise self.refuses

    async def think(self, tokens: list[int]) -> None:
        """Come by one token after another; each question is answered between two of them."""
        for count in range(1, len(tokens) + 1):
            self.prober.watch(tokens[:count])
            for _ in range(3):
                await asyncio.sleep(0)


async def test_the_answers_that_agree_settle_it_once() -> None:
    thinker = Thinker(r"so \boxed{7}", r"\boxed{8}", r"it is \boxed{8}.", "never asked")

    await thinker.think([9] * 30)
    await thinker.prober.stop()

    assert thinker.asked == [4, 8, 12]
    assert thinker.settled == 1


async def test_silence_is_no_agreement() -> None:
    thinker = Thinker(*[""] * 7)
    await thinker.think([9] * 30)
    assert (len(thinker.asked), thinker.settled) == (7, 0)


async def test_only_a_line_that_thinks_is_asked() -> None:
    before = Thinker("7", opened=False)
    await before.think([9] * 10)
    after = Thinker("7")
    await after.think([9, 9, END, *[9] * 10])
    opened = Thinker("7", "7", opened=False)
    await opened.think([9, START, *[9] * 10])

    assert before.asked == after.asked == []
    assert opened.settled == 1


async def test_one_question_at_a_time() -> None:
    thinker = Thinker("7", "7")
    thinker.goes_on.clear()
    await thinker.think([9] * 10)
    assert thinker.asked == [4]
    thinker.goes_on.set()
    await thinker.think([9] * 12)
    assert (thinker.asked, thinker.settled) == ([4, 8], 1)


async def test_a_question_ends_with_its_line() -> None:
    thinker = Thinker("7")
    thinker.goes_on.clear()
    await thinker.think([9] * 4)
    await thinker.prober.stop()
    assert thinker.answers == ["7"]


async def test_a_question_that_fails_is_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, Exception]] = []
    monkeypatch.setattr(certainty.logger, "warning", lambda *args: said.append(args))
    thinker = Thinker("7")
    await thinker.think([9] * 30)
    await thinker.prober.stop()
    assert (thinker.asked, thinker.settled) == ([4, 8], 0)
    assert [type(error) for _, error in said] == [IndexError]


async def test_an_answer_that_cannot_be_made_known_ends_nothing() -> None:
    thinker = Thinker("7", "7")
    thinker.refuses = ConnectionError("lost")
    await thinker.think([9] * 30)
    await thinker.prober.stop()
    assert (thinker.asked, thinker.settled) == ([4, 8], 1)


async def test_a_question_that_fails_last_keeps_nothing_from_ending() -> None:
    thinker = Thinker()
    thinker.prober.watch([9] * 4)
    for _ in range(3):
        await asyncio.sleep(0)

    await thinker.prober.stop()

    assert thinker.asked == [4]


class Forking:
    """A source whose trajectories think word by word, and whose forks answer in three tokens.

    Attributes:
        fails: Whether no fork is taken.
        asked: How the forks began.
        closed: The trajectories whose thinking was let close.

    """

    def __init__(self, words: int, *, fails: bool = False) -> None:
        self.words = words
        self.fails = fails
        self.asked: list[Start[int]] = []
        self.closed: list[Trajectory[int]] = []

    def start_all(self, starts: Sequence[Start[int]]) -> list[Trajectory[int]]:
        if self.fails and any(start.bare for start in starts):
            raise ConnectionError("the queue is full")
        trajectories = [Trajectory(start) for start in starts]
        for trajectory in trajectories:
            trajectory.steps = self._play(trajectory)
        return trajectories

    async def stop(self, trajectories: Sequence[Trajectory[int]]) -> None:
        raise NotImplementedError

    async def close_thinking(self, trajectory: Trajectory[int]) -> None:
        self.closed.append(trajectory)

    async def _play(self, trajectory: Trajectory[int]) -> AsyncGenerator[Piece[int], None]:
        if trajectory.start.bare:
            self.asked.append(trajectory.start)
        count = 3 if trajectory.start.bare else self.words
        for index in range(count):
            for _ in range(1 if trajectory.start.bare else 9):
                await asyncio.sleep(0)
            piece = Piece((9,), "7", "stop" if index == count - 1 else None, index)
            trajectory.add(piece)
            yield piece


async def watched(source: Forking) -> Trajectory[int]:
    reading = Reading(MARKERS, opened=True, closing=(END,))
    probing = Probing(every=4, agree=2, max_tokens=3)
    (trajectory,) = Certainty(probing).wrap(source, reading).start_all([Start(0, after=5)])
    await trajectory.run()
    return trajectory


async def test_forks_that_agree_let_the_thinking_of_their_trajectory_close() -> None:
    source = Forking(words=30)
    trajectory = await watched(source)
    assert source.closed == [trajectory]
    assert [start.begun for start in source.asked] == [5, 9]
    for start in source.asked:
        assert start.bare
        assert (start.suffix, start.temperature, start.max_tokens) == ((END,), 0.0, 3)
    assert [start.after for start in source.asked] == [9, 13]
    assert len(trajectory.pieces) == 30


async def test_a_trajectory_whose_forks_are_refused_goes_on_unasked() -> None:
    source = Forking(words=12, fails=True)
    trajectory = await watched(source)
    assert (source.asked, source.closed) == ([], [])
    assert trajectory.finished


async def test_a_model_without_thinking_is_not_asked() -> None:
    source = Forking(words=12)
    probing = Probing(every=4, agree=2, max_tokens=3)
    assert Certainty(probing).wrap(source, Reading()) is source
