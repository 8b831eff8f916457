"""The vLLM plugin (`vllm.general_plugins`): runs in every process of the engine.

Without a configuration of ours in `VllmConfig.additional_config` it changes nothing that vLLM does:
a stock `vllm serve` in the same environment stays as it is.
"""

import logging
from typing import Any

import torch

from steersman.engine.compat import version
from steersman.engine.settings import Settings

RPC = "steersman"
"""The worker's method that `collective_rpc` calls: the name of a call, then its arguments."""
ASK = "steersman_ask"
"""The same for a server, which goes on when a call fails: see `ask`."""

logger = logging.getLogger(__name__)


def register() -> None:
    """Install the hooks. vLLM may call this more than once in a process.

    With a vLLM that they were not made for, nothing is installed, and the log says so.
    """
    if problem := version.refusal(version.ENGINE):
        logger.warning("Steering is not installed: %s", problem)
        return
    from steersman.engine.compat import worker

    if worker.patched(RPC):
        return

    def loaded(own: Any) -> None:
        if settings := Settings.of(own.vllm_config):
            own.steersman_ring = worker.attach(own, settings)

    worker.patch(loaded, {RPC: call, ASK: ask})


def call(worker: Any, name: str, *args: Any) -> Any:
    """Call the worker's ring."""
    return getattr(worker.steersman_ring, name)(*args)


def ask(worker: Any, name: str, *args: Any) -> dict[str, Any]:
    """Call the worker's ring; a failure is an answer too.

    No call may raise in one of several workers: vLLM reads no further than the first failure, and
    takes what the other workers answered for their answers to the next step.

    Returns:
        {"value": ...}, or {"error": text, "full": whether there was no memory for it}.

    """
    try:
        return {"value": call(worker, name, *args)}
    except Exception as error:
        logger.exception("%s failed on this rank", name)
        return {"error": str(error) or type(error).__name__, "full": _out_of_memory(error)}


def _out_of_memory(error: Exception) -> bool:
    """True for an error of an allocator: of Python's, of a GPU's, or of torch's on the host."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator: " in str(error)
