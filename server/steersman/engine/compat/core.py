"""Hooks in the engine core's process, beside the scheduler."""

import sys
from functools import wraps
from typing import Any

from vllm.v1.core import block_pool, kv_cache_utils
from vllm.v1.core.sched.scheduler import Scheduler

from steersman.wire import KEY, RequestMessage, read

REPORT = "steersman_report"
"""Attribute of a model runner's output that carries the step message."""
_OFFLOADING = "vllm.v1.simple_kv_offload.manager"
"""Where vLLM keys blocks too, if it is loaded; loaded later, it takes over what is installed."""


def patch() -> None:
    """Install the hooks. They act on requests that carry a configuration of ours, on no other."""
    _key_blocks()
    _pass_reports_on()


def _key_blocks() -> None:
    """Let a block of the prefix cache depend on how its tokens were steered.

    See `block_key`. What vLLM says of blocks in its events has the same keys.
    """
    extra_keys = kv_cache_utils.generate_block_hash_extra_keys

    @wraps(extra_keys)
    def with_configuration(request: Any, start: int, end: int, index: int) -> tuple[Any, int]:
        keys, index = extra_keys(request, start, end, index)
        message = read(request.sampling_params)
        if message is not None and (key := block_key(message, end)):
            keys = (*(keys or ()), (KEY, key))
        return keys, index

    for module in (kv_cache_utils, block_pool, sys.modules.get(_OFFLOADING)):
        if hasattr(module, extra_keys.__name__):  # the last is not in every version of vLLM
            setattr(module, extra_keys.__name__, with_configuration)


def block_key(message: RequestMessage, end: int) -> str | None:
    """The part of a block's hash that tells how its tokens, and all before them, were steered.

    Blocks before the first token that may be steered have their usual hash, so a clean prompt is
    shared by all. Tokens of a prompt are steered, and edited, alike wherever the prompt ends: such
    blocks are shared by all requests of the configuration. How a generated token is steered depends
    on where the prompt ended, and on whether it left the thinking open, which the same tokens need
    not do (a parser can be told that there is no thinking): these meet only where both are the
    same. So a next turn, for which the same tokens are a prompt, never meets them.

    Args:
        message: The control of the request.
        end: Tokens up to the end of the block.

    """
    steering = message.steering
    if steering is None or end <= steering.first:
        return None
    if end <= message.origin:
        return steering.digest
    return f"{steering.digest}/{message.origin}{'/thinking' if message.opened else ''}"


def _pass_reports_on() -> None:
    """Hand step messages on to the front end, in a field that reaches it as it is.

    The first output of a step carries the whole message: a part for each output would cost the
    scheduler more than a step of a small model can spare.
    """
    update_from_output = Scheduler.update_from_output

    @wraps(update_from_output)
    def with_report(self: Any, scheduler_output: Any, model_runner_output: Any) -> Any:
        outputs = update_from_output(self, scheduler_output, model_runner_output)
        if report := getattr(model_runner_output, REPORT, None):
            for client in outputs.values():
                for output in client.outputs[:1]:
                    output.kv_transfer_params = {**(output.kv_transfer_params or {}), KEY: report}
        return outputs

    Scheduler.update_from_output = with_report
