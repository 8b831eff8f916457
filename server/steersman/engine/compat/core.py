"""What runs in the engine core's process, beside the scheduler."""

from typing import Any

from vllm.v1.core import block_pool, kv_cache_utils
from vllm.v1.core.sched.scheduler import Scheduler

from steersman.steering.configuration import KEY

REPORT = "steersman_report"
"""Attribute of a model runner's output that carries the worker's report."""


def patch() -> None:
    """Install the hooks. They act on requests that carry a configuration of ours, on no other."""
    _key_blocks()
    _pass_reports_on()


def _key_blocks() -> None:
    """Let a block of the prefix cache depend on how its tokens were steered.

    The blocks before the first token that may be steered have their usual hash, so a clean prompt
    is shared by all; from there on only requests of the same configuration and the same prompt
    length meet. A next turn, for which the same tokens are a prompt, never does.
    """
    extra_keys = kv_cache_utils.generate_block_hash_extra_keys

    def with_configuration(request: Any, start: int, end: int, index: int) -> tuple[Any, int]:
        keys, index = extra_keys(request, start, end, index)
        params = request.sampling_params
        control = (params.extra_args.get(KEY) if params and params.extra_args else None) or {}
        steering = control.get("steering")
        if steering and end > steering["first"]:
            keys = (*(keys or ()), (KEY, f"{steering['digest']}/{control['origin']}"))
        return keys, index

    kv_cache_utils.generate_block_hash_extra_keys = with_configuration
    # It publishes the same keys in its events.
    block_pool.generate_block_hash_extra_keys = with_configuration


def _pass_reports_on() -> None:
    """Hand the workers' reports on to the front end, in a field that reaches it as it is.

    The first output of a step carries that on all of them: to give each its own would cost the
    scheduler more than a step of a small model can spare.
    """
    update_from_output = Scheduler.update_from_output

    def with_report(self: Any, scheduler_output: Any, model_runner_output: Any) -> Any:
        outputs = update_from_output(self, scheduler_output, model_runner_output)
        if report := getattr(model_runner_output, REPORT, None):
            for client in outputs.values():
                for output in client.outputs[:1]:
                    output.kv_transfer_params = {**(output.kv_transfer_params or {}), KEY: report}
        return outputs

    Scheduler.update_from_output = with_report
