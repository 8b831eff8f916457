"""The look at a model's class, before vLLM loads the model."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from vllm.model_executor.models import registry


def inspect_here() -> None:
    """Have a model's class imported and looked at in this process.

    vLLM starts a process for that, which imports all of vLLM anew, so that CUDA is not initialised
    in this one. On a CPU there is nothing to initialise.
    """

    @wraps(registry._run_in_subprocess)
    def here(look: Callable[[], Any]) -> Any:
        return look()

    registry._run_in_subprocess = here
