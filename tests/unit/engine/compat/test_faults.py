"""vLLM's own scheduler, and no worker: what it does with a request that failed in one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import FinishReason
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from steersman.engine.compat import faults
from steersman.engine.compat.faults import CLEAR, FAILED
from steersman.steering.configuration import Configuration, Term
from steersman.wire import KEY, RequestMessage

REASONER = Path(__file__).parents[4] / "server/steersman/models/reasoner"
SIZE = 32
HASH = get_hash_fn_by_name("sha256")


@pytest.fixture(scope="module")
def config() -> VllmConfig:
    arguments = EngineArgs(
        model=str(REASONER), dtype="float32", block_size=SIZE, max_model_len=512, max_num_seqs=8
    )
    return arguments.create_engine_config()


class Core:
    """A scheduler with eleven blocks, and workers that draw token 7 for everybody."""

    def __init__(self, config: VllmConfig, kind: type[Scheduler] = Scheduler) -> None:
        spec = FullAttentionSpec(block_size=SIZE, num_kv_heads=1, head_size=8, dtype=torch.float32)
        group = KVCacheGroupSpec(["layer"], spec)
        config.cache_config.num_gpu_blocks = 12
        self.scheduler = kind(
            config, KVCacheConfig(12, [], [group]), StructuredOutputManager(config), SIZE
        )
        init_none_hash(HASH)

    def add(self, id_: str, tokens: int, *, steered: bool, prompt: bool = True) -> Request:
        terms = (Term("v", 1.0, prompt=prompt),)
        steering = Configuration.of(terms).message(tokens)
        control = RequestMessage(key=id_, origin=tokens, steering=steering)
        params = SamplingParams(max_tokens=200, extra_args={KEY: control} if steered else None)
        hasher = get_request_block_hasher(SIZE, HASH)
        request = Request(id_, list(range(tokens)), params, None, block_hasher=hasher)
        self.scheduler.add_request(request)
        return request

    def blocks(self, id_: str) -> list[int]:
        (ids,) = self.scheduler.kv_cache_manager.get_block_ids(id_)
        return list(ids)

    def cached(self, ids: list[int]) -> list[bool]:
        pool = self.scheduler.kv_cache_manager.block_pool
        return [pool.blocks[id_].block_hash is not None for id_ in ids]

    def answer(self, scheduled: Any, **failed: str) -> dict[str, Any]:
        """Take the workers' output of a step; what the scheduler says of each request."""
        ids = list(scheduled.num_scheduled_tokens)
        places = {id_: place for place, id_ in enumerate(ids)}
        output = ModelRunnerOutput(ids, places, sampled_token_ids=[[7]] * len(ids))
        if failed:
            setattr(output, FAILED, failed)
        clients = self.scheduler.update_from_output(scheduled, output)
        return {one.request_id: one for client in clients.values() for one in client.outputs}


@pytest.fixture(autouse=True)
def _hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hooks, for the time of a test."""
    for owner, name in (
        (Scheduler, "schedule"),
        (Scheduler, "update_from_output"),
        (KVCacheManager, "free"),
        (KVCacheManager, "pop_blocks_for_free"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    faults.patch()


def test_a_failed_request_ends_alone_and_its_blocks_are_cleared_first(config: VllmConfig) -> None:
    core = Core(config)
    core.add("bad", 2 * SIZE + 1, steered=True)
    core.add("good", 5, steered=False)
    step = core.scheduler.schedule()
    blocks = core.blocks("bad")

    said = core.answer(step, bad="because")

    assert said["bad"].finish_reason == FinishReason.ERROR
    assert said["bad"].stop_reason == "because"
    assert said["bad"].new_token_ids == []
    assert said["good"].new_token_ids == [7]
    assert said["good"].finish_reason is None
    assert core.cached(blocks) == [False] * 3
    again = core.scheduler.schedule()
    assert getattr(again, CLEAR) == sorted(blocks)
    assert again.finished_req_ids == {"bad"}
    core.answer(again)
    assert not hasattr(core.scheduler.schedule(), CLEAR)


def test_the_clean_prompt_stays_in_the_prefix_cache(config: VllmConfig) -> None:
    core = Core(config)
    core.add("bad", 2 * SIZE + 1, steered=True, prompt=False)
    step = core.scheduler.schedule()
    blocks = core.blocks("bad")

    core.answer(step, bad="because")

    assert core.cached(blocks) == [True, True, False]
    assert getattr(core.scheduler.schedule(), CLEAR) == blocks[2:]


def test_a_block_that_others_share_is_cleared_when_it_is_given_away(config: VllmConfig) -> None:
    core = Core(config)
    core.add("first", SIZE + 5, steered=True)
    core.answer(core.scheduler.schedule())
    core.add("second", SIZE + 5, steered=True)
    step = core.scheduler.schedule()
    first, second = core.blocks("first"), core.blocks("second")
    assert first[0] == second[0]

    core.answer(step, first="because")

    assert core.cached(first) == [False, False]
    step = core.scheduler.schedule()
    assert getattr(step, CLEAR) == first[1:]
    core.answer(step)
    core.scheduler.finish_requests("second", RequestStatus.FINISHED_ABORTED)
    assert getattr(core.scheduler.schedule(), CLEAR) == first[:1]


def test_a_request_that_is_gone_when_its_step_comes_back_leaves_nothing(config: VllmConfig) -> None:
    """Its client went while the step ran: nobody looks at what the step made of it."""
    core = Core(config)
    for id_, steered in (("steered", True), ("plain", False)):
        core.add(id_, SIZE + 5, steered=steered)
    step = core.scheduler.schedule()
    blocks = core.blocks("steered")
    core.scheduler.finish_requests(["steered", "plain"], RequestStatus.FINISHED_ABORTED)

    assert core.answer(step, steered="because") == {}

    assert core.cached(blocks) == [False, False]
    core.add("next", 5, steered=False)
    assert getattr(core.scheduler.schedule(), CLEAR) == sorted(blocks)


def test_with_steps_that_overlap_only_what_is_in_flight_is_lost(config: VllmConfig) -> None:
    core = Core(config, AsyncScheduler)
    core.add("steered", SIZE + 5, steered=True)
    first, second = core.scheduler.schedule(), core.scheduler.schedule()
    blocks = core.blocks("steered")
    core.answer(first)
    assert core.cached(blocks) == [True, False]

    core.scheduler.finish_requests("steered", RequestStatus.FINISHED_ABORTED)
    assert core.answer(second) == {}

    assert core.cached(blocks) == [True, False]
    core.add("next", 5, steered=False)
    assert getattr(core.scheduler.schedule(), CLEAR) == blocks[1:]


def test_what_ends_as_it_should_is_not_cleared(config: VllmConfig) -> None:
    core = Core(config)
    request = core.add("steered", SIZE + 5, steered=True)
    request.sampling_params.max_tokens = request.max_tokens = 1

    said = core.answer(core.scheduler.schedule())

    assert said["steered"].finish_reason == FinishReason.LENGTH
    core.add("next", 5, steered=False)
    assert not hasattr(core.scheduler.schedule(), CLEAR)
