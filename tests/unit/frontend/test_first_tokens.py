"""Times of the first tokens of streamed responses."""

from collections.abc import AsyncGenerator, Sequence

import pytest
from vllm.outputs import CompletionOutput, RequestOutput

from steersman.frontend.first_tokens import timed
from steersman.ledger import Ledger
from steersman.trajectory.reading import Reading
from tests.unit.servers import MARKERS

pytestmark = pytest.mark.anyio

START, END = MARKERS.start[0], MARKERS.end[0]


async def stream(
    clock: list[float], *steps: tuple[int, Sequence[int]]
) -> AsyncGenerator[RequestOutput, None]:
    """Outputs a second apart, each with the tokens of one choice."""
    for index, tokens in steps:
        clock[0] += 1.0
        completion = CompletionOutput(index, "", [*tokens], None, None)
        yield RequestOutput("r", None, None, None, [completion], finished=False)


async def times(
    reading: Reading, *steps: tuple[int, Sequence[int]]
) -> tuple[float | None, float | None]:
    clock = [0.0]
    ledger = Ledger(lambda: clock[0])
    passed = [output async for output in timed(stream(clock, *steps), reading, ledger)]
    assert [one.outputs[0].token_ids for one in passed] == [[*tokens] for _, tokens in steps]
    return ledger.first_token_seconds, ledger.first_answer_seconds


async def test_the_answer_begins_after_the_thinking() -> None:
    reading = Reading(MARKERS, opened=True)
    assert await times(reading, (0, ()), (0, (7, 8)), (0, (END,)), (0, (9,)), (0, (9,))) == (2, 4)


async def test_a_response_that_never_stops_thinking_has_no_answer() -> None:
    assert await times(Reading(MARKERS, opened=True), (0, (7,)), (0, (8,))) == (1, None)


async def test_without_thinking_both_are_the_same() -> None:
    assert await times(Reading(), (0, (7,)), (0, (8,))) == (1, 1)


async def test_of_several_choices_the_first_counts() -> None:
    reading = Reading(MARKERS)
    choices = (0, (START,)), (1, (START, END)), (0, (7, END)), (1, (9,)), (0, (9,))
    assert await times(reading, *choices) == (1, 4)


async def test_of_the_turns_of_a_tool_loop_the_first_counts() -> None:
    clock = [0.0]
    ledger = Ledger(lambda: clock[0])
    for _ in range(2):
        async for _ in timed(stream(clock, (0, (7,))), Reading(), ledger):
            pass
    assert (ledger.first_token_seconds, ledger.first_answer_seconds) == (1, 1)
