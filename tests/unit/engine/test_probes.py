"""Forks that are asked for an answer, on a scripted engine client."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import SamplingParams

from steersman.engine.carrier import Carrier
from steersman.engine.lines import Call
from steersman.engine.probes import Probes
from steersman.engine.reports import Reports
from steersman.thinking.governing import Governing, Probing
from steersman.trajectory.line import Line
from tests.unit.servers import MARKERS

pytestmark = pytest.mark.anyio

PROBING = Probing(every=1, agree=2, max_tokens=3)
PROMPT = {"type": "token", "prompt_token_ids": [4, 5, 6]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Engine:
    """Answers each fork in three tokens, unless it fails before one of them.

    Attributes:
        fails_at: The token; the first is 0.
        told: What all ranks were told.

    """

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.told: list[Any] = []

    async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        self.told.append(args)
        return [{"value": None}]

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        for index in range(3):
            if index == self.fails_at:
                raise ConnectionError("the queue is full")
            completion = CompletionOutput(0, "7", [7], None, None)
            completion.finish_reason = "stop" if index == 2 else None
            yield RequestOutput(
                request_id, None, prompt["prompt_token_ids"], None, [completion], index == 2
            )


async def probed(engine: Engine, choices: int = 1) -> Line[Any]:
    """The last of a request's lines, after it has thought for some tokens."""
    client: Any = engine
    carrier = Carrier(Reports(), governing=Governing(probing=PROBING), origin=3, longest=100)
    call = Call(PROMPT, SamplingParams(), "r", {})
    probes = Probes(client, call, carrier, PROBING, MARKERS, closing=(2,))
    lines: list[Line[Any]] = [Line(branch) for branch in range(choices)]
    with carrier.lines(lines, call.params):
        prober = probes.of(lines[-1])
        for count in range(1, 9):
            prober.watch([1] * count)
            for _ in range(9):
                await asyncio.sleep(0)
        await prober.stop()
    return lines[-1]


async def test_answers_that_agree_settle_the_choice_they_are_of() -> None:
    for choices, choice in ((1, None), (3, 2)):
        engine = Engine()
        line = await probed(engine, choices)
        assert [probe.text for probe in line.probes] == ["777", "777"]
        assert [args[2] for args in engine.told] == [choice]


@pytest.mark.parametrize(("fails_at", "asked", "tokens"), [(0, 0, 0), (1, 1, 1), (2, 1, 2)])
async def test_what_the_engine_did_not_take_was_not_asked(
    fails_at: int, asked: int, tokens: int
) -> None:
    engine = Engine(fails_at)
    line = await probed(engine)
    assert len(line.probes) == asked
    assert sum(probe.tokens for probe in line.probes) == tokens
    assert engine.told == []
