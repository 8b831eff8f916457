"""Names of vLLM's engine: workers, model runners, scheduler, KV cache, models, configuration.

The engine plugin works with vLLM 0.26 and later; what came later says so in `since`.
"""

from steersman.engine.compat.contract import Name, Use, of

_WORKER = "vllm.v1.worker.gpu_worker:Worker."
_V1 = "vllm.v1.worker.gpu_model_runner:GPUModelRunner."
_V2 = "vllm.v1.worker.gpu.model_runner:GPUModelRunner."
_TOP = "vllm.v1.sample.ops.topk_topp_sampler:"
_STEP = "vllm.v1.core.sched.output:"
_SCHEDULER = "vllm.v1.core.sched.scheduler:Scheduler."
_CACHE = "vllm.v1.core.kv_cache_manager:KVCacheManager."
_POOL = "vllm.v1.core.block_pool:BlockPool."
_BLOCK = "vllm.v1.core.kv_cache_utils:"
_OUTPUT = "vllm.v1.engine:"
_LINEAR = "vllm.model_executor.layers.linear:"
_GROUP = "vllm.distributed.parallel_state:"
_CONFIG = "vllm.config:"
_BROADCAST = "vllm.distributed.device_communicators.shm_broadcast:"
_LATEST = (0, 32)

_PROCESSES = (
    Name("vllm.plugins:DEFAULT_PLUGINS_GROUP"),
    Name(_WORKER + "load_model", Use.WRAPPED),
    Name("vllm.v1.worker.cpu_worker:CPUWorker.load_model", Use.INHERITED),
    *of(_WORKER, "model_runner vllm_config device"),
    *of(_WORKER, "steersman steersman_ask steersman_ring", Use.ADDED),
    Name(
        "vllm.v1.engine.core:EngineCore.collective_rpc",
        Use.CALLED,
        leading=("method", "timeout", "args", "kwargs"),
    ),
)

_WAITING = (
    Name(
        _BROADCAST + "sched_yield",
        Use.WRAPPED,
        since=_LATEST,
    ),
    Name(_BROADCAST + "SpinCondition.record_read", Use.WRAPPED, since=_LATEST),
    Name(_BROADCAST + "SpinCondition.local_notify_socket", since=_LATEST),
)

_RUNNERS = (
    *(
        name
        for owner, runner in ((_V1, "V1"), (_V2, "V2"))
        for name in (
            Name(owner + "execute_model", Use.WRAPPED, ("scheduler_output",), runner=runner),
            Name(owner + "sample_tokens", Use.WRAPPED, runner=runner),
            Name(
                owner + "_dummy_run",
                Use.WRAPPED,
                ("num_tokens",),
                ("uniform_decode", "force_attention"),
                runner=runner,
            ),
            Name(owner + "get_model", Use.CALLED, runner=runner),
            *of(owner, "sampler kv_caches kv_cache_config", runner=runner),
        )
    ),
    Name(_V1 + "_prepare_inputs", Use.WRAPPED, ("scheduler_output",), runner="V1"),
    *of(_V1, "requests input_batch query_start_loc positions input_ids", runner="V1"),
    Name("vllm.v1.utils:CpuGpuBuffer.gpu", runner="V1"),
    Name("vllm.v1.worker.gpu_input_batch:InputBatch.req_ids", runner="V1"),
    *of(
        "vllm.v1.worker.gpu_input_batch:CachedRequestState.",
        "prompt_token_ids output_token_ids sampling_params",
        runner="V1",
    ),
    *of("vllm.v1.sample.sampler:Sampler.", "forward sample", Use.WRAPPED, leading=("logits",)),
    Name("vllm.v1.sample.sampler:Sampler.topk_topp_sampler", runner="V1"),
    Name(_TOP + "TopKTopPSampler.forward", Use.WRAPPED, runner="V1"),
    Name(_TOP + "apply_top_k_top_p", Use.CALLED, ("logits", "k", "p"), runner="V1"),
    Name(_V2 + "prepare_inputs", Use.WRAPPED, ("scheduler_output",), runner="V2"),
    *of(
        "vllm.v1.worker.gpu.input_batch:InputBatch.",
        "req_ids query_start_loc positions input_ids num_tokens",
        runner="V2",
    ),
    Name(
        "vllm.v1.worker.gpu.sample.sampler:Sampler.sample",
        Use.WRAPPED,
        leading=("logits",),
        runner="V2",
    ),
    *of(
        "vllm.v1.worker.gpu.sample.sampler:Sampler.",
        "use_flashinfer use_xpu_sampler",
        runner="V2",
        since=_LATEST,
    ),
    Name("vllm.v1.outputs:AsyncModelRunnerOutput.get_output", Use.WRAPPED),
    *of("vllm.v1.outputs:ModelRunnerOutput.", "steersman_report steersman_failed", Use.ADDED),
    Name("vllm.v1.kv_cache_interface:KVCacheConfig.num_blocks"),
)

_STEPS = (
    *of(
        _STEP + "SchedulerOutput.",
        "finished_req_ids preempted_req_ids scheduled_new_reqs scheduled_cached_reqs "
        "total_num_scheduled_tokens",
    ),
    Name(_STEP + "SchedulerOutput.steersman_clear", Use.ADDED),
    *of(
        _STEP + "NewRequestData.",
        "req_id prompt_token_ids prefill_token_ids sampling_params num_computed_tokens block_ids",
    ),
    *of(
        _STEP + "CachedRequestData.",
        "req_ids resumed_req_ids num_computed_tokens all_token_ids new_block_ids",
    ),
    Name(
        _SCHEDULER + "update_from_output",
        Use.WRAPPED,
        leading=("scheduler_output", "model_runner_output"),
        exact=True,
    ),
    Name(_SCHEDULER + "schedule", Use.WRAPPED),
    Name(_SCHEDULER + "finish_requests", Use.CALLED, leading=("request_ids", "finished_status")),
    *of(_SCHEDULER, "requests kv_cache_manager"),
    *of(
        "vllm.v1.request:Request.",
        "request_id client_index sampling_params num_computed_tokens num_in_flight_tokens",
    ),
    Name("vllm.v1.request:Request.is_finished", Use.CALLED),
    Name("vllm.v1.request:RequestStatus.FINISHED_ERROR"),
    Name(_OUTPUT + "FinishReason.ERROR"),
    Name(
        _OUTPUT + "EngineCoreOutput",
        Use.CALLED,
        keywords=("request_id", "new_token_ids", "finish_reason", "stop_reason"),
    ),
    Name(_OUTPUT + "EngineCoreOutput.kv_transfer_params"),
    Name(_OUTPUT + "EngineCoreOutputs", Use.CALLED),
    Name(_OUTPUT + "EngineCoreOutputs.outputs"),
)

_HASHED = ("request", "start_token_idx", "end_token_idx", "start_mm_idx")
_BLOCKS = (
    *of(_CACHE, "free pop_blocks_for_free", Use.WRAPPED, leading=("request",), exact=True),
    Name(_CACHE + "get_block_ids", Use.CALLED, ("request_id",)),
    Name(_CACHE + "evict_blocks", Use.CALLED, ("block_ids",)),
    *of(_CACHE, "coordinator block_pool"),
    Name(_CACHE + "steersman_tainted", Use.ADDED),
    Name("vllm.v1.core.kv_cache_coordinator:KVCacheCoordinator.single_type_managers"),
    Name("vllm.v1.core.single_type_kv_cache_manager:SingleTypeKVCacheManager.block_size"),
    *of(_POOL, "blocks null_block"),
    *of(_BLOCK + "KVCacheBlock.", "block_id ref_cnt"),
    *(
        Name(
            f"{module}:generate_block_hash_extra_keys",
            Use.WRAPPED,
            _HASHED,
            exact=True,
            since=since,
        )
        for module, since in (
            ("vllm.v1.core.kv_cache_utils", (0, 26)),
            ("vllm.v1.core.block_pool", (0, 26)),
            ("vllm.v1.simple_kv_offload.manager", _LATEST),
        )
    ),
)

_MODELS = (
    Name("vllm.model_executor.models.utils:PPMissingLayer"),
    Name("vllm.model_executor.models.interfaces_base:VllmModelForTextGeneration.compute_logits"),
    Name("vllm.model_executor.models.interfaces:SupportsMultiModal.get_language_model"),
    # How layers of some models say that each rank has a part of the batch.
    Name("vllm.model_executor.models.qwen3_next:*.use_attn_reduce_scatter_for_moe"),
    Name("vllm.model_executor.models.qwen3_next:*.use_sequence_parallel", since=_LATEST),
    Name("vllm.model_executor.models.llama4:*.use_sequence_parallel_moe"),
    Name("vllm.model_executor.models.qwen3_moe:*.is_sequence_parallel"),
    Name("vllm.models.qwen4_exp.nvidia.model:*.use_hc_sequence_parallel", since=_LATEST),
    # What decoder layers call their parts.
    Name("vllm.model_executor.models.llama:*.post_attention_layernorm"),
    *of("vllm.model_executor.models.llama:*.", "mlp gate_up_proj down_proj act_fn"),
    Name("vllm.compilation.decorators:*.do_not_compile"),
    *of(
        _LINEAR + "RowParallelLinear.",
        "input_size input_size_per_partition tp_rank quant_method params_dtype",
    ),
    Name(_LINEAR + "UnquantizedLinearMethod.apply", Use.WRAPPED, ("layer", "x", "bias")),
    Name(
        "vllm.model_executor.layers.utils:dispatch_cpu_unquantized_gemm",
        Use.CALLED,
        ("layer",),
        ("remove_weight",),
    ),
    Name("vllm.model_executor.layers.utils:*.cpu_linear"),
    Name("vllm.model_executor.layers.activation:SiluAndMul.forward", Use.WRAPPED),
    *of(
        "vllm.model_executor.layers.layernorm:RMSNorm.",
        "weight has_weight variance_size_override variance_epsilon",
    ),
    Name("vllm.model_executor.layers.layernorm:RMSNorm.forward", Use.WRAPPED),
    *of("", "rms_norm fused_add_rms_norm", Use.OPERATOR),
    *of(
        "vllm.forward_context:",
        "get_forward_context is_forward_context_available",
        Use.CALLED,
    ),
    Name("vllm.forward_context:ForwardContext.batch_descriptor"),
    Name("vllm.forward_context:BatchDescriptor.num_tokens"),
    *of(_GROUP, "get_pp_group get_tp_group", Use.CALLED),
    *of(_GROUP + "GroupCoordinator.", "is_first_rank is_last_rank world_size"),
    Name("vllm.platforms:current_platform"),
    Name("vllm.platforms.interface:Platform.is_cpu", Use.CALLED),
)

_CONFIGURATION = (
    *of(
        _CONFIG + "VllmConfig.",
        "additional_config cache_config compilation_config kv_transfer_config model_config "
        "parallel_config reasoning_config scheduler_config speculative_config "
        "structured_outputs_config use_v2_model_runner",
    ),
    Name(_CONFIG + "CompilationMode.NONE"),
    *of(_CONFIG + "CompilationConfig.", "mode pass_config max_cudagraph_capture_size"),
    Name(_CONFIG + "PassConfig.enable_sp", until=(0, 26)),
    *of(
        _CONFIG + "ParallelConfig.",
        "data_parallel_rank data_parallel_size prefill_context_parallel_size tensor_parallel_size "
        "use_sequence_parallel_moe use_ubatching",
    ),
    *of(_CONFIG + "ParallelConfig.", "enable_batch_sharded_sampling enable_hc_sp", since=_LATEST),
    Name(_CONFIG + "CacheConfig.kv_sharing_fast_prefill"),
    *of(
        _CONFIG + "KVTransferConfig.",
        "kv_connector kv_connector_extra_config kv_connector_module_path",
    ),
    *of(_CONFIG + "SchedulerConfig.", "max_num_batched_tokens max_num_seqs"),
    *of(
        _CONFIG + "ModelConfig.",
        "architecture dtype max_model_len model model_arch_config revision served_model_name",
    ),
    *of(
        _CONFIG + "ModelConfig.",
        "get_diff_sampling_param get_hidden_size get_total_num_hidden_layers get_vocab_size "
        "try_get_generation_config",
        Use.CALLED,
    ),
    Name("vllm.config.model_arch:ModelArchitectureConfig.total_num_attention_heads"),
)

ENGINE: tuple[Name, ...] = (
    *_PROCESSES,
    *_WAITING,
    *_RUNNERS,
    *_STEPS,
    *_BLOCKS,
    *_MODELS,
    *_CONFIGURATION,
)
