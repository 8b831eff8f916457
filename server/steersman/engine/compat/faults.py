"""End of a request that failed in a worker, beside the scheduler: alone, and leaving nothing.

Its results may be wrong, or no numbers. So its blocks are taken out of the prefix cache, and are
cleared before another request gets them. The same goes for the last blocks of a steered request
that leaves while a step of it is still running: no check will see that step.
"""

from functools import wraps
from typing import Any

from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.request import RequestStatus

from steersman.wire import read

FAILED = "steersman_failed"
"""Attribute of a model runner's output: the requests that failed, each with a reason."""
CLEAR = "steersman_clear"
"""Attribute of a step of the scheduler: the blocks that the workers clear before it."""
_TAINTED = "steersman_tainted"
"""Attribute of the KV cache's manager: blocks that must be cleared before they are used again."""


def patch() -> None:
    """Install the hooks. They act on requests that failed, and on steered ones, on no other."""
    _end_failed()
    _clear_tainted()
    _taint_unseen()


def _end_failed() -> None:
    update_from_output = Scheduler.update_from_output

    @wraps(update_from_output)
    def without_failed(self: Any, scheduler_output: Any, model_runner_output: Any) -> Any:
        failed = getattr(model_runner_output, FAILED, None)
        if not failed:
            return update_from_output(self, scheduler_output, model_runner_output)
        known = [self.requests[id_] for id_ in failed if id_ in self.requests]
        ended = [request for request in known if not request.is_finished()]
        for request in ended:
            message = read(request.sampling_params)
            steering = message.steering if message else None
            _taint(self.kv_cache_manager, request, steering.first if steering else 0)
        self.finish_requests([one.request_id for one in ended], RequestStatus.FINISHED_ERROR)
        outputs = update_from_output(self, scheduler_output, model_runner_output)
        for request in ended:
            client = outputs.setdefault(request.client_index, EngineCoreOutputs())
            client.outputs.append(_last(request.request_id, failed[request.request_id]))
        return outputs

    Scheduler.update_from_output = without_failed


def _last(request_id: str, reason: str) -> EngineCoreOutput:
    """The output that ends a request; the reason travels where a stop string would."""
    return EngineCoreOutput(
        request_id=request_id,
        new_token_ids=[],
        finish_reason=FinishReason.ERROR,
        stop_reason=reason,
    )


def _clear_tainted() -> None:
    schedule = Scheduler.schedule

    @wraps(schedule)
    def with_clearing(self: Any, *args: Any, **options: Any) -> Any:
        tainted = getattr(self.kv_cache_manager, _TAINTED, None)
        if not tainted:
            return schedule(self, *args, **options)
        blocks = self.kv_cache_manager.block_pool.blocks
        clear = {id_ for id_ in tainted if blocks[id_].ref_cnt == 0}
        scheduled = schedule(self, *args, **options)
        # Others share the rest, unless a preemption has just taken them away.
        clear |= tainted & _given(scheduled)
        tainted -= clear
        setattr(scheduled, CLEAR, sorted(clear))
        return scheduled

    Scheduler.schedule = with_clearing


def _given(scheduled: Any) -> set[int]:
    """The blocks that a step gives to requests. None of the tainted ones is a hit of the prefix
    cache."""
    groups = [new.block_ids for new in scheduled.scheduled_new_reqs]
    groups += [ids for ids in scheduled.scheduled_cached_reqs.new_block_ids if ids is not None]
    return {id_ for ids in groups for group in ids for id_ in group}


def _taint_unseen() -> None:
    """Taint the blocks that a step in flight writes, when a steered request is freed."""
    # The second is what vLLM calls where freeing must wait.
    for name in ("free", "pop_blocks_for_free"):
        setattr(KVCacheManager, name, _tainting(getattr(KVCacheManager, name)))


def _tainting(freeing: Any) -> Any:
    @wraps(freeing)
    def free(self: Any, request: Any) -> Any:
        message, unseen = read(request.sampling_params), request.num_in_flight_tokens
        if message is not None and message.steering is not None and unseen:
            seen = request.num_computed_tokens - unseen
            _taint(self, request, max(message.steering.first, seen))
        return freeing(self, request)

    return free


def _taint(manager: Any, request: Any, first: int) -> None:
    """Take a request's blocks from a token on out of the prefix cache, to be cleared."""
    groups = manager.get_block_ids(request.request_id)
    sizes = [own.block_size for own in manager.coordinator.single_type_managers]
    null = manager.block_pool.null_block.block_id
    ids = {id_ for own, size in zip(groups, sizes, strict=True) for id_ in own[first // size :]}
    ids.discard(null)
    manager.evict_blocks(ids)
    setattr(manager, _TAINTED, getattr(manager, _TAINTED, set()) | ids)
