"""The wrapped engine against a scripted engine client."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from steersman.controls.control import Part
from steersman.controls.events import EventsPart
from steersman.controls.limits import LimitsPart
from steersman.controls.monitor import MonitorPart
from steersman.controls.search import SearchPart
from steersman.controls.thinking import ThinkingPart
from steersman.frontend.arrival import check_arrival
from steersman.frontend.client import ControlledEngine
from steersman.frontend.reports import Reports
from steersman.plan import Plan
from steersman.request import Endpoint, Request
from steersman.scope import CONTROL, REFUSED, ControlScope
from steersman.search.first_finish import FirstFinishPolicy
from steersman.search.majority import MajorityPolicy
from steersman.thinking.governing import Governing
from steersman_client import FirstFinish, Limits, Majority
from tests.unit.frontend.scripted import NO_PHASE, PROMPT, WHOLE, ScriptedClient
from tests.unit.servers import MARKERS

pytestmark = pytest.mark.anyio

STREAM = Request(Endpoint.CHAT, stream=True)


GOVERNED = ThinkingPart(Governing(), MARKERS)
MONITORED = MonitorPart(tokens=False, markers=MARKERS)


def plan(*parts: Part, request: Request = STREAM) -> Plan:
    return Plan(request, 100, None, parts)


def controlled(plan: Plan) -> ControlScope:
    return ControlScope.of(plan, max_forks=64)


RACE = SearchPart(FirstFinishPolicy(), FirstFinish(method="first_finish", n=3))


@pytest.fixture
def race() -> Iterator[ControlScope]:
    control = controlled(plan(RACE))
    token = CONTROL.set(control)
    yield control
    CONTROL.reset(token)


@contextlib.contextmanager
def scope(control: ControlScope) -> Iterator[None]:
    token = CONTROL.set(control)
    try:
        yield
    finally:
        CONTROL.reset(token)


def params(**fields: Any) -> SamplingParams:
    return SamplingParams(seed=5, output_kind=RequestOutputKind.DELTA, **fields)


async def collect(engine: ControlledEngine, sampling: SamplingParams) -> list[RequestOutput]:
    return [output async for output in engine.generate(PROMPT, sampling, "r", priority=1)]


async def test_without_a_control_the_call_is_the_clients_own() -> None:
    client = ScriptedClient()
    engine = ControlledEngine(client, NO_PHASE, Reports())
    sampling = params()
    assert len(await collect(engine, sampling)) == 5
    ((request_id, passed, options),) = client.requests
    assert request_id == "r"
    assert passed is sampling
    assert options == {"priority": 1}
    engine.check_admission(2)
    assert client.admitted == [2]
    assert engine.aborted is client.aborted


async def test_a_fan_out_is_admitted_with_all_its_prompts() -> None:
    client = ScriptedClient()
    engine = ControlledEngine(client, NO_PHASE, Reports())
    request = Request(Endpoint.COMPLETIONS, prompts=4)
    token = CONTROL.set(controlled(plan(RACE, request=request)))
    engine.check_admission(1)
    CONTROL.reset(token)
    assert client.admitted == [12]


async def test_a_search_is_one_request_to_the_caller(race: ControlScope) -> None:
    client = ScriptedClient()
    sampling = params(max_tokens=50)
    outputs = await collect(ControlledEngine(client, NO_PHASE, Reports()), sampling)
    assert {output.request_id for output in outputs} == {"r"}
    assert [output.finished for output in outputs] == [False] * 4 + [True]
    assert [request.seed for _, request, _ in client.requests] == [5, 6, 7]
    assert {request.max_tokens for _, request, _ in client.requests} == {33}
    assert [options for _, _, options in client.requests] == [{"priority": 1}] * 3
    ids = [request_id for request_id, _, _ in client.requests]
    assert len({*ids, "r"}) == 4
    assert (client.aborted, client.aborts) == ({*ids[1:]}, 1)
    assert (sampling.seed, sampling.max_tokens) == (5, 50)
    receipt = race.receipt()
    assert (receipt.applied.max_tokens, receipt.applied.seeds) == (33, (5,))
    assert receipt.applied.search is not None
    assert receipt.applied.search.cancelled == 2
    assert receipt.compute.returned_tokens == 5
    assert receipt.compute.prefill_tokens == 6


@pytest.mark.parametrize(
    ("most", "asked", "given"),
    [(3, (50, 10), (3, 3)), (3, (2, 1), (2, 1)), (40, (50, 45), (33, 33))],
)
async def test_no_branch_samples_more_than_the_limit_of_its_request(
    most: int, asked: tuple[int, int], given: tuple[int, int]
) -> None:
    client = ScriptedClient()
    limits = LimitsPart(Limits(max_sampled_tokens=most))
    sampling = params(max_tokens=asked[0], min_tokens=asked[1])
    with scope(controlled(plan(RACE, limits))):
        await collect(ControlledEngine(client, NO_PHASE, Reports()), sampling)
    passed = {(request.max_tokens, request.min_tokens) for _, request, _ in client.requests}
    assert passed == {given}


class Handing(ScriptedClient):
    """An engine of a pair: one that leaves its blocks for the other, or fetches the other's."""

    LEFT: ClassVar = {"do_remote_prefill": True, "remote_block_ids": [1, 2]}

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        asked = (params.extra_args or {}).get("kv_transfer_params")
        async for output in super().generate(prompt, params, request_id, **options):
            if output.finished and asked and asked.get("do_remote_decode"):
                output.kv_transfer_params = self.LEFT
            yield output

    @property
    def carriers(self) -> list[int | None]:
        """The seeds of the requests that fetch blocks, or leave them."""
        asked = [params for _, params, _ in self.requests]
        return [p.seed for p in asked if "kv_transfer_params" in (p.extra_args or {})]


async def test_one_branch_fetches_the_blocks_of_another_engine(race: ControlScope) -> None:
    client = Handing()
    transfer = {"kv_transfer_params": Handing.LEFT, "mine": 1}
    sampling = params(max_tokens=50, extra_args=transfer)

    await collect(ControlledEngine(client, NO_PHASE, Reports()), sampling)

    assert client.carriers == [5]
    assert [(p.extra_args or {}).get("mine") for _, p, _ in client.requests] == [1, 1, 1]
    assert sampling.extra_args == transfer


@pytest.mark.parametrize("kind", [RequestOutputKind.DELTA, RequestOutputKind.FINAL_ONLY])
async def test_the_answer_says_where_its_branch_left_the_blocks(
    race: ControlScope, kind: RequestOutputKind
) -> None:
    client = Handing()
    # All are as long, so whichever wins, the one that left its blocks has finished too.
    sampling = SamplingParams(
        output_kind=kind, extra_args={"kv_transfer_params": {"do_remote_decode": True}}
    )

    request = Request(Endpoint.CHAT, stream=kind is RequestOutputKind.DELTA)
    with scope(controlled(replace(race.plan, request=request))):
        outputs = await collect(ControlledEngine(client, NO_PHASE, Reports()), sampling)

    assert len(client.carriers) == 1
    assert outputs[-1].kv_transfer_params == Handing.LEFT


async def test_admission_counts_the_branches(race: ControlScope) -> None:
    client = ScriptedClient()
    ControlledEngine(client, NO_PHASE, Reports()).check_admission(1)
    assert client.admitted == [3]


async def test_the_calls_of_a_tool_loop_have_one_receipt(race: ControlScope) -> None:
    engine = ControlledEngine(ScriptedClient(), NO_PHASE, Reports())
    race = controlled(replace(race.plan, request=Request(Endpoint.RESPONSES, stream=True)))
    CONTROL.set(race)
    await collect(engine, params(max_tokens=20))
    spent = race.ledger.sampled_tokens
    await collect(engine, params(max_tokens=None))
    receipt = race.receipt()
    assert receipt.applied.search is not None
    assert (receipt.applied.search.launched, receipt.applied.search.winners) == (6, (0, 0))
    assert race.ledger.generations[0].branch_max_tokens == 20
    assert race.ledger.generations[1].branch_max_tokens == (100 - spent) // 3


async def test_an_engine_error_keeps_its_type(race: ControlScope) -> None:
    engine = ControlledEngine(ScriptedClient(error=ConnectionError("dead")), NO_PHASE, Reports())
    with pytest.raises(ConnectionError, match="dead"):
        await collect(engine, params())


async def test_a_plain_control_counts_what_passes() -> None:
    control = controlled(plan())
    with scope(control):
        outputs = await collect(
            ControlledEngine(ScriptedClient(), NO_PHASE, Reports()), params(max_tokens=9)
        )
    assert len(outputs) == 5
    compute = control.receipt().compute
    assert (compute.sampled_tokens, compute.returned_tokens, compute.prefill_tokens) == (5, 5, 2)
    assert control.receipt().applied.max_tokens == 9


async def test_every_choice_counts_what_it_computed_of_the_prompt() -> None:
    request = Request(Endpoint.CHAT, choices=3)
    control = controlled(plan(request=request))
    sampling = SamplingParams(n=3, seed=2**63 - 2, output_kind=RequestOutputKind.FINAL_ONLY)
    client = ScriptedClient(length=2)
    with scope(control):
        (output,) = await collect(ControlledEngine(client, NO_PHASE, Reports()), sampling)
    assert [choice.index for choice in output.outputs] == [0, 1, 2]
    assert [choice.token_ids for choice in output.outputs] == [[7, 7]] * 3
    receipt = control.receipt()
    assert receipt.compute.prefill_tokens == 6
    seeds = [passed.seed for _, passed, _ in client.requests]
    assert receipt.applied.seeds == tuple(seeds) == (2**63 - 2, 2**63 - 1, 0)


async def test_tokens_that_a_slow_client_has_not_been_given_are_not_delivered() -> None:
    events = EventsPart(frozenset({"progress"}))
    control = controlled(plan(events))
    with scope(control):
        outputs = ControlledEngine(ScriptedClient(), NO_PHASE, Reports()).generate(
            PROMPT, params(), "r"
        )
        given = 0
        async for output in outputs:
            for _ in range(20):  # the engine is long done
                await asyncio.sleep(0)
            given += len(output.outputs[0].token_ids)
            assert [one.delivered for one in control.ledger.branches] == [given]
    assert given == 5


VOTE = SearchPart(MajorityPolicy(), Majority(method="majority", n=3))
AT_ONCE = LimitsPart(Limits(max_seconds=1e-9))


@pytest.mark.parametrize("parts", [(AT_ONCE,), (RACE, AT_ONCE), (VOTE, AT_ONCE)])
@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_limit_reached_before_the_first_token_ends_every_choice_without_any(
    parts: tuple[Part, ...], choices: int, stream: bool
) -> None:
    control = controlled(
        plan(*parts, request=Request(Endpoint.CHAT, stream=stream, choices=choices))
    )
    client = ScriptedClient(length=3)
    sampling = SamplingParams(
        n=choices, seed=4, output_kind=RequestOutputKind.DELTA if stream else WHOLE, logprobs=1
    )
    with scope(control):
        outputs = await collect(ControlledEngine(client, NO_PHASE, Reports()), sampling)
    ended = [(one.index, one.finish_reason) for output in outputs for one in output.outputs]
    assert sorted(ended) == [(index, "length") for index in range(choices)]
    assert [output.finished for output in outputs][-1]
    for output in outputs:
        assert (output.prompt_token_ids, output.request_id) == ([4, 5, 6], "r")
        assert all(
            (one.text, one.token_ids, one.logprobs) == ("", [], []) for one in output.outputs
        )
    assert client.requests == []
    receipt = control.receipt()
    assert receipt.applied.stopped_by == "max_seconds"
    assert receipt.applied.seeds == (4, 5)[:choices]
    assert receipt.compute.sampled_tokens == 0


@pytest.mark.parametrize(
    ("planned", "arrives", "field"),
    [
        (Request(Endpoint.CHAT), SamplingParams(n=2, output_kind=WHOLE), "n"),
        (Request(Endpoint.CHAT, choices=2), SamplingParams(output_kind=WHOLE), "n"),
        (Request(Endpoint.CHAT), SamplingParams(output_kind=RequestOutputKind.DELTA), "stream"),
        (Request(Endpoint.CHAT, stream=True), SamplingParams(output_kind=WHOLE), "stream"),
        # As vLLM's beam search calls the engine.
        (Request(Endpoint.CHAT), SamplingParams(logprobs=2, max_tokens=1), "stream"),
    ],
)
def test_what_was_not_planned_is_refused(
    planned: Request, arrives: SamplingParams, field: str
) -> None:
    refused(plan(request=planned), arrives, field)


def test_what_the_body_alone_does_not_tell_is_refused_on_arrival() -> None:
    race = plan(RACE, request=Request(Endpoint.CHAT))
    refused(race, SamplingParams(temperature=0, output_kind=WHOLE), "temperature")
    governed = plan(GOVERNED, request=Request(Endpoint.CHAT))
    own = SamplingParams(thinking_token_budget=3, output_kind=WHOLE)
    refused(governed, own, "thinking_token_budget")
    monitored = plan(MONITORED, request=Request(Endpoint.CHAT))
    mixed = {"type": "embeds", "prompt_embeds": object(), "prompt_token_ids": [1]}
    refused(monitored, SamplingParams(output_kind=WHOLE), "prompt_embeds", prompt=mixed)
    grammar = SamplingParams(
        structured_outputs=StructuredOutputsParams(choice=["yes"]), output_kind=WHOLE
    )
    refused(governed, grammar, "control.thinking", grammar_in_thinking=True)
    check_arrival(controlled(governed), PROMPT, grammar, grammar_in_thinking=False)


@pytest.mark.parametrize("opened", [True, False])
def test_a_grammar_that_begins_within_the_thinking_is_refused(opened: bool) -> None:
    """As with `include_reasoning: false`: vLLM takes the phase that the prompt opened for ended."""
    governed = plan(GOVERNED, request=Request(Endpoint.CHAT))
    reasoning: Any = SimpleNamespace(
        markers=None, opens=lambda *_: opened, stops=(), text_of=lambda _: ""
    )
    engine = ControlledEngine(ScriptedClient(), reasoning, Reports())
    grammar = StructuredOutputsParams(choice=["yes"])
    arrives = SamplingParams(structured_outputs=grammar, output_kind=WHOLE)
    with scope(controlled(governed)):
        if not opened:
            engine.generate(PROMPT, arrives, "r", reasoning_ended=True)
            return
        with pytest.raises(VLLMValidationError, match="binds the thinking") as caught:
            engine.generate(PROMPT, arrives, "r", reasoning_ended=True)
        assert caught.value.parameter == "control.thinking"
        engine.generate(PROMPT, arrives, "r", reasoning_ended=False)


def test_more_prompts_than_planned_are_refused() -> None:
    two = controlled(plan(request=Request(Endpoint.COMPLETIONS, prompts=2)))
    engine = ControlledEngine(ScriptedClient(), NO_PHASE, Reports())
    sampling = SamplingParams(output_kind=WHOLE)
    with scope(two):
        engine.generate(PROMPT, sampling, "r-0")
        engine.generate(PROMPT, sampling, "r-1")
        with pytest.raises(VLLMValidationError) as caught:
            engine.generate(PROMPT, sampling, "r-2")
    assert caught.value.parameter == "prompt"


def test_nothing_runs_for_a_request_that_could_not_be_planned() -> None:
    client = ScriptedClient()
    token = REFUSED.set(True)
    try:
        with pytest.raises(VLLMValidationError, match="could not be planned"):
            ControlledEngine(client, NO_PHASE, Reports()).generate(PROMPT, params(), "r")
    finally:
        REFUSED.reset(token)
    assert client.requests == []


def refused(planned: Plan, arrives: SamplingParams, field: str, **options: Any) -> None:
    """Check that a call is refused with the name of a field."""
    prompt = options.pop("prompt", PROMPT)
    options = {"grammar_in_thinking": False, **options}
    with pytest.raises(VLLMValidationError, match="cannot be applied") as caught:
        check_arrival(controlled(planned), prompt, arrives, **options)
    assert caught.value.parameter == field
