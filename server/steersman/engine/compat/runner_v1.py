"""vLLM's first model runner (`vllm/v1/worker/gpu_model_runner.py`): the default on CPUs."""

from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

from steersman.engine.batch import Batch, Driven
from steersman.engine.compat import steps
from steersman.engine.governor import Governor


def attach(runner: Any, driven: Driven) -> None:
    """Let a runner's steps drive what its rank does beside them."""
    prepare_inputs = runner._prepare_inputs

    def resumed(request_id: str) -> tuple[Any, list[int]]:
        request = runner.requests[request_id]
        known = [*(request.prompt_token_ids or ()), *request.output_token_ids]
        return request.sampling_params, known

    def prepare(scheduler_output: Any, *args: Any, **options: Any) -> Any:
        prepared = prepare_inputs(scheduler_output, *args, **options)
        driven.begin(
            Batch(
                request_ids=runner.input_batch.req_ids,
                query_start=runner.query_start_loc.gpu,
                positions=runner.positions,
                token_ids=runner.input_ids.gpu,
                tokens=scheduler_output.total_num_scheduled_tokens,
            )
        )
        return prepared

    runner._prepare_inputs = prepare
    steps.drive(runner, driven, resumed)


def attach_sampler(runner: Any, governor: Governor) -> None:
    """Let the governor stand between a runner's logits and what it samples."""
    if not hasattr(runner, "sampler"):
        return  # only the last pipeline stage samples
    sampler = runner.sampler
    drawing = sampler.topk_topp_sampler
    forward, sample, draw = sampler.forward, sampler.sample, drawing.forward

    def observed(logits: Tensor, *args: Any, **options: Any) -> Any:
        # Penalties and temperature go into the logits themselves, unless these are copied first.
        governor.observe(logits, keep=logits.dtype == torch.float32)
        return forward(logits, *args, **options)

    def governed(logits: Tensor, *args: Any, **options: Any) -> Any:
        governor.forbid(logits)
        sampled, logprobs = sample(logits, *args, **options)
        governor.govern(sampled)
        return sampled, logprobs

    def processed(
        logits: Tensor, generators: Any, k: Tensor | None, p: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if governor.processing:
            # Drawing then has nothing left to cut off, and no fused sampler keeps the logits back.
            logits, k, p = apply_top_k_top_p(logits, k, p), None, None
            governor.process(logits)
        drawn: tuple[Tensor, Tensor | None] = draw(logits, generators, k, p)
        return drawn

    sampler.forward = observed
    sampler.sample = governed
    drawing.forward = processed
