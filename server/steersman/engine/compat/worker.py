"""Steering, or capturing, put into vLLM's workers and its engine core."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import CompilationMode, VllmConfig
from vllm.distributed.parallel_state import get_pp_group, get_tp_group
from vllm.platforms import current_platform
from vllm.v1.worker.gpu_worker import Worker

from steersman.engine.capture import Capture, CaptureRing, Columns
from steersman.engine.compat import (
    core,
    eager,
    faults,
    layers,
    projections,
    residuals,
    runner_v1,
    runner_v2,
    steps,
    waiting,
)
from steersman.engine.compat.config import unsupported, uses_v2_runner
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


def patched(name: str) -> bool:
    """Tell whether this process has had `patch`, with a call of that name."""
    return hasattr(Worker, name)


def patch(loaded: Callable[[Any], None], calls: Mapping[str, Callable[..., Any]]) -> None:
    """Hook into this process's workers and its engine core.

    Args:
        loaded: Runs with each worker once its model is loaded.
        calls: Further methods of a worker, by the names that `collective_rpc` calls them by.

    """
    core.patch()
    faults.patch()
    waiting.patch()
    load_model = Worker.load_model

    @wraps(load_model)
    def load_and_tell(self: Any, *args: Any, **options: Any) -> None:
        load_model(self, *args, **options)
        loaded(self)

    Worker.load_model = load_and_tell
    for name, call in calls.items():
        setattr(Worker, name, call)


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
        if config.parallel_config.pipeline_parallel_size > 1:
            fixed = "on a CPU, the weights of pipeline stages are compiled in"
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


def _most_tokens(config: VllmConfig) -> int:
    """Tokens of the largest batch, padding for CUDA graphs included."""
    captured = config.compilation_config.max_cudagraph_capture_size or 0
    return int(max(config.scheduler_config.max_num_batched_tokens, captured))
