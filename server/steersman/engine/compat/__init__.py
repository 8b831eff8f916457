"""Everything that depends on vLLM's version or on which of its two model runners is used."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import CompilationMode, VllmConfig
from vllm.distributed.parallel_state import get_pp_group, get_tp_group
from vllm.platforms import current_platform

from steersman.engine.capture import Capture, CaptureRing, Columns
from steersman.engine.compat import (
    connectors,
    core,
    eager,
    faults,
    layers,
    projections,
    residuals,
    runner_v1,
    runner_v2,
    steps,
)
from steersman.engine.compat.weights import LiveWeight
from steersman.engine.controlled import Controlled
from steersman.engine.edited import ChosenEdits
from steersman.engine.governor import Governor
from steersman.engine.health import Health
from steersman.engine.live import LiveEdits
from steersman.engine.ring import Refused, Ring
from steersman.engine.settings import Settings
from steersman.engine.worker import WorkerSteering

_SPARE_ROWS = 8
"""A finished request frees its rows one step after the front end has counted them as free."""


def patch_engine_core() -> None:
    """Install what runs beside the scheduler: block hashes by configuration, and the reports."""
    core.patch()
    faults.patch()


def attach(worker: Any, settings: Settings) -> Ring | CaptureRing | Refused:
    """Put steering, or capturing, into a worker whose model has been loaded.

    Args:
        worker: vLLM's worker, of either model runner.
        settings: The engine's settings.

    """
    runner, config = worker.model_runner, worker.vllm_config
    if reason := unsupported(config):
        return Refused(reason)
    try:
        decoder_layers = layers.decoder_layers(runner.get_model(), config.model_config)
    except layers.UnsupportedModelError as error:
        return Refused(str(error))
    if settings.capture:
        return _attach_capture(runner, config, decoder_layers, worker.device)
    outputs, refusal = _outputs(decoder_layers, config.model_config)
    if settings.edit_rows and refusal:
        return Refused(f"edits cannot be chosen by requests: {refusal}")
    steering = WorkerSteering(
        decoder_layers,
        rows=settings.rows + _SPARE_ROWS,
        hidden_size=config.model_config.get_hidden_size(),
        dtype=config.model_config.dtype,
        device=worker.device,
        max_requests=config.scheduler_config.max_num_seqs,
        max_tokens=_most_tokens(config),
        edits=_chosen_edits(outputs, settings.edit_rows, config, worker.device),
    )
    governor = Governor(
        config.scheduler_config.max_num_seqs, worker.device, config.model_config.dtype
    )
    decode = _decoder(runner, runner._dummy_run)
    v2 = uses_v2_runner(config)
    compat_runner = runner_v2 if v2 else runner_v1
    health = Health(worker.device)
    stages, shards = get_pp_group(), get_tp_group()
    controlled = Controlled(
        steering,
        governor,
        health,
        heard=stages.is_last_rank and shards.is_first_rank,
        alone=stages.world_size == shards.world_size == 1,
    )
    if stages.is_last_rank:
        steps.look(runner, health)
    compat_runner.attach(runner, controlled)
    compat_runner.attach_sampler(runner, governor)
    return Ring(
        controlled,
        "V2" if v2 else "V1",
        decode,
        max_requests=config.scheduler_config.max_num_seqs,
        live=refusal or _live_edits(outputs, config),
        residuals=residuals.Residuals(decoder_layers, runner.get_model()),
    )


Outputs = dict[int, projections.OutputProjection]


def _outputs(decoder_layers: dict[int, nn.Module], model_config: Any) -> tuple[Outputs, str | None]:
    """The output projection of each layer's attention; without them, why not."""
    try:
        heads = projections.query_heads(model_config)
        return projections.output_projections(decoder_layers, heads), None
    except layers.UnsupportedModelError as error:
        return {}, str(error)


def _chosen_edits(
    outputs: Outputs, rows: int, config: VllmConfig, device: torch.device
) -> ChosenEdits | None:
    if not rows:
        return None
    return ChosenEdits(
        outputs,
        rows=rows,
        hidden_size=config.model_config.get_hidden_size(),
        device=device,
        max_tokens=_most_tokens(config),
    )


def _live_edits(outputs: Outputs, config: VllmConfig) -> LiveEdits:
    compiled = config.compilation_config.mode != CompilationMode.NONE
    fixed = None
    if compiled and current_platform.is_cpu():
        fixed = "on a CPU, weights are compiled in: start it with --enforce-eager to edit them"
    weights = {index: LiveWeight(output, fixed) for index, output in outputs.items()}
    return LiveEdits(weights, config.model_config.get_total_num_hidden_layers())


def _attach_capture(
    runner: Any, config: VllmConfig, decoder_layers: dict[int, nn.Module], device: torch.device
) -> CaptureRing | Refused:
    if config.compilation_config.mode != CompilationMode.NONE:
        return Refused("capturing the residual stream needs eager mode")
    outputs, refusal = _outputs(decoder_layers, config.model_config)
    # Without heads, the residual stream can be captured all the same.
    columns = refusal or _columns(next(iter(outputs.values())))
    last = config.model_config.get_total_num_hidden_layers() - 1
    capture = Capture(
        decoder_layers,
        {index: output.module for index, output in outputs.items()},
        0 if isinstance(columns, str) else columns.size,
        config.model_config.get_hidden_size(),
        device,
        layers.gated_mlp(decoder_layers[last]) if last in decoder_layers else None,
    )
    if current_platform.is_cpu():
        eager.hasten(runner.get_model(), config.model_config.dtype)
    (runner_v2 if uses_v2_runner(config) else runner_v1).attach(runner, capture)
    return CaptureRing(capture, columns)


def _columns(output: projections.OutputProjection) -> Columns:
    size, total = output.module.input_size_per_partition, output.module.input_size
    return Columns(output.head_dim, output.start, size, total)


def _decoder(
    runner: Any, dummy_run: Callable[..., tuple[Any, Any]]
) -> Callable[[int], Tensor | None]:
    """vLLM's dummy run, as it is before it lets steering rest, on a decode batch."""

    def decode(requests: int) -> Tensor | None:
        null_blocks = [
            _null_block(cache) for cache in runner.kv_caches if isinstance(cache, Tensor)
        ]
        # All the made-up requests read the block that no request is ever given. It is empty, so
        # the heads would hand on nothing.
        for block in null_blocks:
            block.fill_(1)
        try:
            # Without attention some backends return what was in memory.
            hidden, _ = dummy_run(requests, uniform_decode=True, force_attention=True)
            return hidden[:requests].clone() if isinstance(hidden, Tensor) else None
        finally:
            for block in null_blocks:
                block.zero_()

    return decode


def _null_block(cache: Tensor) -> Tensor:
    """The first block of a layer's cache, which is [blocks, 2, ...], [2, blocks, ...] or [blocks,
    ...] by the attention's backend."""
    return cache[:, 0] if cache.shape[0] < cache.shape[1] else cache[0]


def unsupported(config: VllmConfig) -> str | None:
    """Reason why an engine, as configured, cannot be steered correctly; None if it can."""
    parallel = config.parallel_config
    reasons = {
        "speculative decoding": config.speculative_config is not None
        and "a rejected draft token would be counted, and could close the thinking phase",
        "micro-batching": parallel.use_ubatching and "its part batches number their tokens anew",
        "prefill context parallelism": parallel.prefill_context_parallel_size > 1
        and "each rank has other tokens of a prompt",
        # Not in earlier versions of vLLM.
        "batch-sharded sampling": getattr(parallel, "enable_batch_sharded_sampling", False)
        and "each rank draws for other requests",
        "sequence parallelism": _in_parts(config)
        and f"each rank has other tokens of a batch ({_in_parts(config)})",
        "fast prefill": config.cache_config.kv_sharing_fast_prefill
        and "its last layers leave out tokens of a prompt (--kv-sharing-fast-prefill)",
        "KV connector": connectors.refusal(config.kv_transfer_config),
    }
    return next((f"{name}: {reason}" for name, reason in reasons.items() if reason), None)


def _in_parts(config: VllmConfig) -> str | None:
    """The setting by which a rank's decoder layers have a part of the batch; None without one.

    A model can decide so by itself, too: see `layers.decoder_layers` and `op.check_whole`.
    """
    parallel, passes = config.parallel_config, config.compilation_config.pass_config
    settings = {
        # A property that earlier versions of vLLM lack.
        "expert, tensor and data parallelism together": getattr(
            parallel, "use_sequence_parallel_moe", False
        ),
        # Not in earlier versions of vLLM.
        "--enable-hc-sp": getattr(parallel, "enable_hc_sp", False)
        and parallel.tensor_parallel_size > 1,
        # Not in every version of vLLM.
        "enable_sp": getattr(passes, "enable_sp", False),
    }
    return next((name for name, on in settings.items() if on), None)


def uses_v2_runner(config: VllmConfig) -> bool:
    """True if the workers run vLLM's second model runner."""
    return bool(config.use_v2_model_runner)


def _most_tokens(config: VllmConfig) -> int:
    """Tokens of the largest batch, padding for CUDA graphs included."""
    captured = config.compilation_config.max_cudagraph_capture_size or 0
    return int(max(config.scheduler_config.max_num_batched_tokens, captured))
