"""The meter over a scripted engine client, alone and below the wrapped engine."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.exceptions import GracefulHTTPError
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.frontend.client import ControlledEngine
from steersman.frontend.meter import Meter
from steersman.frontend.reports import Reports
from steersman.keys.key import Key, KeyLimits
from steersman.keys.usage import PASS, Pass, Usage
from steersman.scope import CONTROL, ControlScope
from tests.unit.frontend.test_client import NO_PHASE, PROMPT, RACE, ScriptedClient, plan
from tests.unit.keys.test_bucket import Clock

pytestmark = pytest.mark.anyio

DELTA, WHOLE = RequestOutputKind.DELTA, RequestOutputKind.FINAL_ONLY


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Counted(Usage):
    """The use of a key, with all that was charged."""

    def __init__(self, key: Key) -> None:
        super().__init__(key, clock=Clock())
        self.charged = 0

    def charge(self, tokens: int) -> None:
        self.charged += tokens


@contextlib.contextmanager
def passed(priority: int | None = None, **limits: int) -> Iterator[Pass]:
    """A request with a key in scope."""
    admitted = Pass(Counted(Key("alice", b"", limits=KeyLimits(**limits), priority=priority)))
    token = PASS.set(admitted)
    yield admitted
    PASS.reset(token)


class Client(ScriptedClient):
    """The scripted client, which gives one whole output where a request asks for one."""

    def __init__(self, length: int) -> None:
        super().__init__(length=length)
        self.sampled = 0
        self.begun = asyncio.Event()
        state = SimpleNamespace(detokenizer=SimpleNamespace(num_output_tokens=lambda: self.sampled))
        self.output_processor = SimpleNamespace(
            request_states={"inner": state}, external_req_ids={"x": ["inner", "ended"]}
        )

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        outputs = super().generate(prompt, params, request_id, **options)
        ids: list[int] = []
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                ids += output.outputs[0].token_ids
                self.sampled += 1
                if self.sampled == 3:
                    self.begun.set()
                if params.output_kind is DELTA:
                    yield output
        if params.output_kind is WHOLE:
            output.outputs[0].token_ids = ids
            yield output


def params(kind: RequestOutputKind, n: int = 1) -> SamplingParams:
    return SamplingParams(n=n, output_kind=kind, max_tokens=100)


@pytest.mark.parametrize("kind", [DELTA, WHOLE])
async def test_tokens_are_charged_and_outputs_are_the_engines(kind: RequestOutputKind) -> None:
    with passed(tokens_per_minute=60) as admitted:
        outputs = [one async for one in Meter(Client(5)).generate(PROMPT, params(kind), "x")]
    plain = [one async for one in Client(5).generate(PROMPT, params(kind), "x")]
    shown = [one.outputs[0].token_ids for one in outputs]
    assert shown == [one.outputs[0].token_ids for one in plain]
    assert sum(map(len, shown)) == admitted.usage.charged == 5  # type: ignore[attr-defined]
    assert admitted.usage.running == 0


async def test_without_limits_the_generator_is_the_engines_own() -> None:
    marker = object()
    engine: Any = SimpleNamespace(generate=lambda *_, **__: marker)
    assert Meter(engine).generate(PROMPT, params(DELTA), "x") is marker
    with passed():
        assert Meter(engine).generate(PROMPT, params(DELTA), "x") is marker


@pytest.mark.parametrize(("kind", "charged"), [(DELTA, 3), (WHOLE, 3)])
async def test_a_client_that_hangs_up_is_charged_for_what_was_sampled(
    kind: RequestOutputKind, charged: int
) -> None:
    engine = Client(10**6)

    async def consume() -> None:
        async for _ in Meter(engine).generate(PROMPT, params(kind), "x"):
            pass

    with passed(tokens_per_minute=60, concurrency=1) as admitted:
        task = asyncio.create_task(consume())
        await engine.begun.wait()
        assert admitted.usage.running == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    # The engine goes on until it hears of it: no more than a step or two.
    assert charged <= admitted.usage.charged <= engine.sampled  # type: ignore[attr-defined]
    assert admitted.usage.running == 0
    admitted.check_fan_out(10**9)


async def test_an_error_is_the_engines_and_leaves_nothing_behind() -> None:
    engine = ScriptedClient(error=ValueError("no"))
    with passed(fan_out=2, concurrency=1) as admitted:
        for kind in (DELTA, WHOLE):
            with pytest.raises(ValueError, match="no"):
                async for _ in Meter(engine).generate(PROMPT, params(kind, 2), "x"):
                    pass
    assert admitted.usage.running == 0
    admitted.check_fan_out(2)


async def test_a_request_is_in_flight_as_long_as_the_engine_works_for_it() -> None:
    """A background response goes on after its HTTP request has ended."""
    with passed(concurrency=1) as admitted:
        with admitted.held():
            outputs = Meter(Client(2)).generate(PROMPT, params(DELTA), "x")
            await anext(outputs)
        assert admitted.usage.running == 1
        async for _ in outputs:
            pass
        assert admitted.usage.running == 0


async def test_a_key_s_priority_counts_and_else_the_request_s() -> None:
    for own, told in ((None, 7), (-3, -3)):
        engine = Client(1)
        with passed(priority=own):
            async for _ in Meter(engine).generate(PROMPT, params(DELTA), "x", priority=7):
                pass
        assert engine.requests[0][2]["priority"] == told


def wrapped(engine: Any) -> ControlledEngine:
    return ControlledEngine(Meter(engine), NO_PHASE, Reports())


async def test_all_choices_of_all_prompts_together_are_the_fan_out() -> None:
    engine = wrapped(Client(1))
    with passed(fan_out=4) as admitted:
        engine.generate(PROMPT, params(DELTA, 2), "a")
        engine.generate(PROMPT, params(DELTA, 2), "b")
        with pytest.raises(GracefulHTTPError, match="fan_out = 4") as caught:
            engine.generate(PROMPT, params(DELTA, 1), "c")
    assert caught.value.http_status == 429
    assert admitted.refused is not None


async def test_steps_one_after_another_are_no_fan_out() -> None:
    engine = wrapped(Client(1))
    with passed(fan_out=2):
        for _ in range(3):
            async for _ in engine.generate(PROMPT, params(DELTA, 2), "x"):
                pass


@pytest.mark.parametrize(("own", "asked", "priority"), [(None, 0, 0), (None, 5, 5), (-3, 5, -3)])
async def test_losers_are_charged_and_every_branch_has_the_priority(
    own: int | None, asked: int, priority: int
) -> None:
    client = Client(6)
    control = ControlScope.of(plan(RACE), max_forks=64)
    token = CONTROL.set(control)
    try:
        with passed(own, tokens_per_minute=60, fan_out=3) as admitted:
            outputs = wrapped(client).generate(PROMPT, params(DELTA), "x", priority=asked)
            async for _ in outputs:
                pass
    finally:
        CONTROL.reset(token)
    assert [options["priority"] for _, _, options in client.requests] == [priority] * 3
    assert control.ledger.sampled_tokens > 6
    assert admitted.usage.charged == control.ledger.sampled_tokens  # type: ignore[attr-defined]
    assert admitted.usage.running == 0
