"""The same imports, with a Triton that runs on CPUs."""

import os
from types import SimpleNamespace

os.environ["TRITON_INTERPRET"] = "1"

from triton.backends import backends

# The interpreter, as a backend that has a driver.
backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))

import vllm.v1.worker.cpu.model_runner  # noqa: E402
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch  # noqa: E402
from vllm.v1.worker.gpu.sample import sampler  # noqa: E402

from tests.engine.imported import vllm  # noqa: E402
from tests.interpreter import quicken  # noqa: E402

quicken()

# vLLM's kernel for this does not run in the interpreter; its PyTorch does the same.
sampler.apply_top_k_top_p = apply_top_k_top_p_pytorch

__all__ = ["vllm"]
