"""The queue over an engine client that counts as vLLM does: a fan-out begins as a whole."""

import asyncio
import contextlib
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.exceptions import GracefulHTTPError

from steersman.controls.search import SearchPart
from steersman.frontend.client import ControlledEngine
from steersman.frontend.meter import Meter
from steersman.frontend.queue import Queue, places
from steersman.frontend.reports import Reports
from steersman.request import Endpoint, Request
from steersman.scope import ControlScope
from steersman.search.majority import MajorityPolicy
from steersman_client import Majority
from tests.unit.frontend.queued import Vllm, settle
from tests.unit.frontend.scripted import NO_PHASE, PROMPT
from tests.unit.frontend.test_client import controlled, params, plan, scope

pytestmark = pytest.mark.anyio

TURNS = Request(Endpoint.RESPONSES, stream=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def vote(n: int) -> SearchPart:
    return SearchPart(MajorityPolicy(), Majority(method="majority", n=n))


def wrapped(vllm: Vllm) -> ControlledEngine:
    client: Any = vllm
    return ControlledEngine(Meter(Queue(client)), NO_PHASE, Reports())  # type: ignore[arg-type]


async def ask(
    engine: ControlledEngine,
    name: str,
    branches: int | None = None,
    rendered: asyncio.Event | None = None,
    turns: int = 1,
) -> int:
    """An HTTP request from its admission to its end; the number of its outputs."""
    control = controlled(plan(vote(branches), request=TURNS)) if branches else None
    with places(), scope(control) if control else contextlib.nullcontext():
        engine.check_admission(1)
        await (rendered.wait() if rendered else asyncio.sleep(0))
        outputs = 0
        for _ in range(turns):
            async for _ in engine.generate(PROMPT, params(), name):
                outputs += 1
        return outputs


def has_room(vllm: Vllm, engine: ControlledEngine) -> bool:
    """Tell whether a request of as many branches as there is room would be admitted."""

    def admit() -> None:
        with places():
            engine.check_admission(vllm.room)

    try:
        Context().run(admit)
    except GracefulHTTPError:
        return False
    return True


async def both(
    vllm: Vllm, engine: ControlledEngine
) -> tuple[int | BaseException, int | BaseException]:
    """Two fan-outs of three branches, the second admitted before the first has begun."""
    asks = [asyncio.create_task(ask(engine, name, 3)) for name in ("a", "b")]
    await settle()
    vllm.go.set()
    first, second = await asyncio.gather(*asks, return_exceptions=True)
    return first, second


async def test_of_two_fan_outs_at_once_one_is_refused_before_it_begins() -> None:
    vllm = Vllm(room=5)
    first, second = await both(vllm, wrapped(vllm))
    assert first == 2
    assert isinstance(second, GracefulHTTPError)
    assert (vllm.begun_of("a"), vllm.begun_of("b")) == (3, 0)


async def test_without_the_queue_one_of_them_would_lack_a_branch() -> None:
    vllm = Vllm(room=5)
    client: Any = vllm
    first, second = await both(vllm, ControlledEngine(client, NO_PHASE, Reports()))
    assert first == 2
    assert isinstance(second, GracefulHTTPError)
    assert vllm.begun_of("b") == 2


async def test_two_that_fit_both_run() -> None:
    vllm = Vllm(room=6)
    assert await both(vllm, wrapped(vllm)) == (2, 2)


async def test_a_plain_request_takes_no_place_that_is_kept() -> None:
    vllm, rendered = Vllm(room=3), asyncio.Event()
    engine = wrapped(vllm)
    fan_out = asyncio.create_task(ask(engine, "a", 3, rendered))
    await settle()
    with pytest.raises(GracefulHTTPError):
        await ask(engine, "plain")
    with pytest.raises(GracefulHTTPError):  # as one that was not admitted before
        await anext(engine.generate(PROMPT, params(), "plain"))
    rendered.set()
    vllm.go.set()
    assert await fan_out == 2
    assert vllm.begun_of("a") == 3
    assert vllm.begun_of("plain") == 0


async def test_a_plain_request_keeps_its_place_as_well() -> None:
    vllm, rendered = Vllm(room=3), asyncio.Event()
    engine = wrapped(vllm)
    plain = asyncio.create_task(ask(engine, "plain", rendered=rendered))
    await settle()
    with pytest.raises(GracefulHTTPError):
        await ask(engine, "a", 3)
    rendered.set()
    vllm.go.set()
    assert await plain == 2


async def ask_prompts(engine: ControlledEngine, name: str, prompts: int, turns: int = 1) -> int:
    """A plain HTTP request of several prompts: vLLM admits it as one, and makes all calls first."""
    with places():
        engine.check_admission(1)
        outputs = 0
        for _ in range(turns):
            calls = [
                engine.generate(PROMPT, params(), f"{name}-{place}") for place in range(prompts)
            ]
            for call in calls:
                async for _ in call:
                    outputs += 1
        return outputs


async def test_of_a_plain_request_all_prompts_begin_or_none() -> None:
    vllm = Vllm(room=3)
    vllm.go.set()
    engine = wrapped(vllm)
    with pytest.raises(GracefulHTTPError):
        await ask_prompts(engine, "many", 4)
    assert vllm.begun_of("many") == 0
    assert has_room(vllm, engine)
    assert await ask_prompts(engine, "fit", 3) == 6
    assert vllm.begun_of("fit") == 3


async def test_a_plain_request_keeps_no_more_room_than_its_prompts_need() -> None:
    vllm, engine = (made := Vllm(room=3)), wrapped(made)
    waiting = asyncio.create_task(ask_prompts(engine, "two", 2))
    await settle()
    with places():
        engine.check_admission(1)
    vllm.go.set()
    assert await waiting == 4
    assert await ask_prompts(engine, "turns", 3, turns=2) == 12


async def test_the_limit_of_queued_tokens_is_looked_at_once_for_all_branches() -> None:
    vllm = Vllm(room=100, prefilling=1)
    engine = wrapped(vllm)
    fan_out = asyncio.create_task(ask(engine, "a", 3))
    await settle()
    assert len(vllm.running) == 3
    with pytest.raises(GracefulHTTPError, match="tokens"):
        await ask(engine, "b", 3)
    vllm.go.set()
    assert await fan_out == 2


async def test_every_turn_of_a_tool_loop_begins_as_a_whole_or_not_at_all() -> None:
    vllm = Vllm(room=3)
    engine = wrapped(vllm)
    vllm.go.set()
    assert await ask(engine, "a", 3, turns=2) == 4
    assert vllm.begun_of("a") == 6

    with places(), scope(controlled(plan(vote(3), request=TURNS))):
        engine.check_admission(1)
        async for _ in engine.generate(PROMPT, params(), "b"):
            pass
        vllm.running.append("another")
        with pytest.raises(GracefulHTTPError):
            engine.generate(PROMPT, params(), "b")
    assert vllm.begun_of("b") == 3


async def _render_fails(vllm: Vllm, engine: ControlledEngine) -> None:
    async def fails() -> None:
        with places(), scope(controlled(plan(vote(3)))):
            engine.check_admission(1)
            assert not has_room(vllm, engine)
            raise ValueError("template")

    with pytest.raises(ValueError, match="template"):
        await fails()


async def _hangs_up_before(vllm: Vllm, engine: ControlledEngine) -> None:
    await _cancelled(asyncio.create_task(ask(engine, "a", 3, asyncio.Event())), vllm, engine)
    assert vllm.begun == []


async def _hangs_up_between(vllm: Vllm, engine: ControlledEngine) -> None:
    """While some branches run and others wait for their turn."""

    async def narrow() -> None:
        with places(), scope(ControlScope.of(plan(vote(3)), max_forks=1)):
            engine.check_admission(1)
            async for _ in engine.generate(PROMPT, params(), "a"):
                pass

    await _cancelled(asyncio.create_task(narrow()), vllm, engine)
    assert vllm.begun_of("a") == 1


async def _hangs_up_within(vllm: Vllm, engine: ControlledEngine) -> None:
    await _cancelled(asyncio.create_task(ask(engine, "a", 3)), vllm, engine)
    assert vllm.begun_of("a") == 3


async def _cancelled(task: "asyncio.Task[Any]", vllm: Vllm, engine: ControlledEngine) -> None:
    await settle()
    assert not has_room(vllm, engine)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def _engine_fails(vllm: Vllm, engine: ControlledEngine) -> None:
    vllm.error = ConnectionError("dead")
    vllm.go.set()
    with pytest.raises(ConnectionError):
        await asyncio.create_task(ask(engine, "a", 3))


async def _ends(vllm: Vllm, engine: ControlledEngine) -> None:
    vllm.go.set()
    await asyncio.create_task(ask(engine, "a", 3))


@pytest.mark.parametrize(
    "way",
    [_render_fails, _hangs_up_before, _hangs_up_between, _hangs_up_within, _engine_fails, _ends],
)
async def test_however_a_request_ends_its_places_are_given_back(
    way: Callable[[Vllm, ControlledEngine], Any],
) -> None:
    vllm = Vllm(room=3)
    engine = wrapped(vllm)
    await asyncio.create_task(way(vllm, engine))
    assert vllm.running == []
    assert has_room(vllm, engine)


async def test_nothing_is_kept_for_a_request_that_goes_on_in_the_background() -> None:
    vllm = Vllm(room=2)
    engine = wrapped(vllm)
    with places():
        engine.check_admission(1)
        context = copy_context()
    assert has_room(vllm, engine)
    context.run(engine.check_admission, 2)  # a later turn
    assert has_room(vllm, engine)
    context.run(vllm.begin, "late")
    assert not has_room(vllm, engine)


OPERATIONS = st.tuples(
    st.sampled_from(["admit", "begin", "end", "leave", "plain", "plain ends"]),
    st.integers(0, 3),
    st.integers(1, 4),
)


class Asking:
    """An HTTP request in a context of its own."""

    def __init__(self) -> None:
        self.context = copy_context()
        self.places = places()
        self.context.run(self.places.__enter__)
        self.pending = 0
        self.running = 0

    def leave(self) -> None:
        self.context.run(self.places.__exit__, None, None, None)


@given(st.integers(1, 8), st.lists(OPERATIONS, max_size=60))
def test_in_whatever_order_all_that_was_admitted_begins(
    room: int, operations: list[tuple[str, int, int]]
) -> None:
    vllm = Vllm(room)
    client: Any = vllm
    queue = Queue(client)
    asking: dict[int, Asking] = {}
    for operation, name, n in operations:
        one = asking.get(name)
        kept = sum(other.pending for other in asking.values())
        fits = len(vllm.running) + kept + n <= room
        if operation == "admit":
            if one is None:
                one = asking[name] = Asking()
            with _refusal_unless(fits):
                one.context.run(queue.check_admission, n)
                one.pending += n
        elif operation == "plain":
            with _refusal_unless(fits):
                vllm.begin("plain", n)
        elif operation == "plain ends" and "plain" in vllm.running:
            vllm.running.remove("plain")
        elif operation == "begin" and one is not None and one.pending:
            one.context.run(vllm.begin, str(name))  # is never refused
            one.pending -= 1
            one.running += 1
        elif operation == "end" and one is not None and one.running:
            one.running -= 1
            vllm.running.remove(str(name))
        elif operation == "leave" and one is not None:
            asking.pop(name).leave()
            vllm.running = [running for running in vllm.running if running != str(name)]
        assert len(vllm.running) + sum(other.pending for other in asking.values()) <= room
    for one in asking.values():
        one.leave()


@contextlib.contextmanager
def _refusal_unless(fits: bool) -> Any:
    if fits:
        yield
    else:
        with pytest.raises(GracefulHTTPError):
            yield
