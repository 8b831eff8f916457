"""vLLM's second model runner (`vllm/v1/worker/gpu/model_runner.py`): the default on GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor

from steersman.engine.batch import Batch, Driven
from steersman.engine.compat import steps
from steersman.engine.governor import Governor


def attach(runner: Any, driven: Driven) -> None:
    """Let a runner's steps drive what its rank does beside them."""
    prepare_inputs = runner.prepare_inputs

    def resumed(request_id: str) -> tuple[Any, list[int]]:
        raise AssertionError(f"{request_id} should have come back as a new request")

    def prepare(*args: Any, **options: Any) -> Any:
        batch = prepare_inputs(*args, **options)
        driven.begin(
            Batch(
                request_ids=batch.req_ids,
                query_start=batch.query_start_loc,
                positions=batch.positions,
                token_ids=batch.input_ids,
                tokens=batch.num_tokens,
            )
        )
        return batch

    runner.prepare_inputs = prepare
    steps.drive(runner, driven, resumed)


def attach_sampler(runner: Any, governor: Governor) -> None:
    """Let the governor stand between a runner's logits and what it samples."""
    if getattr(runner, "sampler", None) is None:
        return  # only the last pipeline stage samples
    sampler = runner.sampler
    sample = sampler.sample

    def governed(logits: Tensor, *args: Any, **options: Any) -> Any:
        # Penalties and temperature go into a copy.
        governor.observe(logits, keep=False)
        governor.forbid(logits)
        with _unfused(sampler) if governor.processing else nullcontext():
            sampled, processed = sample(logits, *args, **options)
        if governor.processing:
            governor.process(processed)
        governor.govern(sampled)
        return sampled, processed

    sampler.sample = governed


@contextmanager
def _unfused(sampler: Any) -> Iterator[None]:
    """Let nothing draw tokens and cut logits off at once: these are needed as they are cut off."""
    fused = getattr(sampler, "use_flashinfer", False), getattr(sampler, "use_xpu_sampler", False)
    sampler.use_flashinfer = sampler.use_xpu_sampler = False
    try:
        yield
    finally:
        sampler.use_flashinfer, sampler.use_xpu_sampler = fused
