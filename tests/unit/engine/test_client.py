"""The wrapped engine against a scripted engine client."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.engine.client import ControlledEngine
from steersman.engine.reports import Reports
from steersman.plan import Plan
from steersman.scope import CONTROL, ControlScope
from steersman_client import FirstFinish

pytestmark = pytest.mark.anyio

PROMPT = {"type": "token", "prompt_token_ids": [4, 5, 6]}


class ScriptedClient:
    """Each request yields a token a tick, as many as its seed says, until it is aborted."""

    model_config = SimpleNamespace(max_model_len=100)

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.requests: list[tuple[str, SamplingParams, dict[str, Any]]] = []
        self.admitted: list[int] = []
        self.aborted: set[str] = set()

    def check_admission(self, n: int, request_id: str | None = None) -> None:
        self.admitted.append(n)

    async def abort(self, request_id: str) -> None:
        self.aborted.add(request_id)

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        self.requests.append((request_id, params, options))
        length = params.seed or 1
        for i in range(length):
            await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            aborted = request_id in self.aborted
            finish = "abort" if aborted else "stop" if i == length - 1 else None
            completion = CompletionOutput(
                index=0, text="w", token_ids=[7], cumulative_logprob=None, logprobs=None
            )
            completion.finish_reason = finish
            yield RequestOutput(
                request_id=request_id,
                prompt=None,
                prompt_token_ids=[4, 5, 6],
                prompt_logprobs=None,
                outputs=[completion],
                finished=finish is not None,
                num_cached_tokens=1,
            )
            if aborted:
                return


def plan(search: FirstFinish | None, *, prompts: int = 1, max_tokens: int = 100) -> Plan:
    return Plan(profile=None, steering=None, search=search, prompts=prompts, max_tokens=max_tokens)


@pytest.fixture
def race() -> Iterator[ControlScope]:
    control = ControlScope(plan(FirstFinish(method="first_finish", n=3)))
    token = CONTROL.set(control)
    yield control
    CONTROL.reset(token)


def params(**fields: Any) -> SamplingParams:
    return SamplingParams(seed=5, output_kind=RequestOutputKind.DELTA, **fields)


async def collect(engine: ControlledEngine, sampling: SamplingParams) -> list[RequestOutput]:
    return [output async for output in engine.generate(PROMPT, sampling, "r", priority=1)]


async def test_without_a_control_the_call_is_the_clients_own() -> None:
    client = ScriptedClient()
    engine = ControlledEngine(client, None, Reports())
    sampling = params()
    assert len(await collect(engine, sampling)) == 5
    ((request_id, passed, options),) = client.requests
    assert request_id == "r"
    assert passed is sampling
    assert options == {"priority": 1}
    engine.check_admission(2)
    assert client.admitted == [2]
    assert engine.aborted is client.aborted


async def test_a_search_is_one_request_to_the_caller(race: ControlScope) -> None:
    client = ScriptedClient()
    sampling = params(max_tokens=50)
    outputs = await collect(ControlledEngine(client, None, Reports()), sampling)
    assert {output.request_id for output in outputs} == {"r"}
    assert [output.finished for output in outputs] == [False] * 4 + [True]
    assert [request.seed for _, request, _ in client.requests] == [5, 6, 7]
    assert {request.max_tokens for _, request, _ in client.requests} == {33}
    assert [options for _, _, options in client.requests] == [{"priority": 1}] * 3
    (own_id,) = {request_id for request_id, _, _ in client.requests}
    assert own_id != "r"
    assert client.aborted == {own_id}
    assert (sampling.seed, sampling.max_tokens) == (5, 50)
    receipt = race.receipt()
    assert receipt.applied.search is not None
    assert receipt.applied.search.cancelled == 2
    assert receipt.compute.returned_tokens == 5
    assert receipt.compute.prefill_tokens == 6


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


async def test_one_sibling_fetches_the_blocks_of_another_engine(race: ControlScope) -> None:
    client = Handing()
    transfer = {"kv_transfer_params": Handing.LEFT, "mine": 1}
    sampling = params(max_tokens=50, extra_args=transfer)

    await collect(ControlledEngine(client, None, Reports()), sampling)

    assert client.carriers == [5]
    assert [(p.extra_args or {}).get("mine") for _, p, _ in client.requests] == [1, 1, 1]
    assert sampling.extra_args == transfer


@pytest.mark.parametrize("kind", [RequestOutputKind.DELTA, RequestOutputKind.FINAL_ONLY])
async def test_the_answer_says_where_its_sibling_left_the_blocks(
    race: ControlScope, kind: RequestOutputKind
) -> None:
    client = Handing()
    # All are as long, so whichever wins, the one that left its blocks has finished too.
    sampling = SamplingParams(
        output_kind=kind, extra_args={"kv_transfer_params": {"do_remote_decode": True}}
    )

    outputs = await collect(ControlledEngine(client, None, Reports()), sampling)

    assert len(client.carriers) == 1
    assert outputs[-1].kv_transfer_params == Handing.LEFT


async def test_admission_counts_the_branches(race: ControlScope) -> None:
    client = ScriptedClient()
    ControlledEngine(client, None, Reports()).check_admission(1)
    assert client.admitted == [3]


async def test_the_calls_of_a_tool_loop_have_one_receipt(race: ControlScope) -> None:
    engine = ControlledEngine(ScriptedClient(), None, Reports())
    await collect(engine, params(max_tokens=20))
    spent = race.ledger.sampled_tokens
    await collect(engine, params(max_tokens=None))
    receipt = race.receipt()
    assert receipt.applied.search is not None
    assert (receipt.applied.search.launched, receipt.applied.search.winners) == (6, (0, 0))
    assert race.ledger.runs[0].branch_max_tokens == 20
    assert race.ledger.runs[1].branch_max_tokens == (100 - spent) // 3


async def test_an_engine_error_keeps_its_type(race: ControlScope) -> None:
    engine = ControlledEngine(ScriptedClient(error=ConnectionError("dead")), None, Reports())
    with pytest.raises(ConnectionError, match="dead"):
        await collect(engine, params())


async def test_a_plain_control_counts_what_passes() -> None:
    control = ControlScope(plan(None))
    token = CONTROL.set(control)
    try:
        outputs = await collect(
            ControlledEngine(ScriptedClient(), None, Reports()), params(max_tokens=9)
        )
    finally:
        CONTROL.reset(token)
    assert len(outputs) == 5
    compute = control.receipt().compute
    assert (compute.sampled_tokens, compute.returned_tokens, compute.prefill_tokens) == (5, 5, 2)
