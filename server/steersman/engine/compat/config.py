"""Engine configurations that cannot be steered correctly, and the model runner that one has."""

from vllm.config import VllmConfig

from steersman.engine.compat import connectors


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
