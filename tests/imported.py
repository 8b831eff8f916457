"""Imports of every process of an engine on a CPU, made once in what they are forked from."""

import vllm.model_executor.models.llama
import vllm.model_executor.models.qwen3
import vllm.model_executor.warmup.kernel_warmup
import vllm.v1.attention.backends.cpu_attn
import vllm.v1.engine.core
import vllm.v1.executor.multiproc_executor
import vllm.v1.executor.uniproc_executor
import vllm.v1.worker.cpu_model_runner
import vllm.v1.worker.cpu_worker
from vllm import LLM, SamplingParams

import steersman.engine.controlled
import steersman.engine.plugin
import steersman.frontend.carrier
import steersman.trajectory.boundaries

__all__ = ["LLM", "SamplingParams", "steersman", "vllm"]
