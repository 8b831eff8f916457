"""Names of vLLM's front end and of its offline engine. They are those of 0.32 and later."""

from typing import Any

from steersman.engine.compat.contract import Name, Use
from steersman.engine.compat.contract import of as _of

_LATEST = (0, 32)
_ASYNC = "vllm.v1.engine.async_llm:AsyncLLM."
_CORE_CLIENT = "vllm.v1.engine.core_client:"
_DETOKENIZER = "vllm.v1.engine.detokenizer:IncrementalDetokenizer."
_PARSER = "vllm.reasoning:"
_TOOLS = "vllm.tool_parsers:"
_LAUNCHER = "vllm.entrypoints.launchers."
_OPENAI = "vllm.entrypoints.openai."
_LLM = "vllm:LLM."
_LLM_ENGINE = "vllm.v1.engine.llm_engine:LLMEngine."


def of(owner: str, listed: str, use: Use = Use.READ, **facts: Any) -> tuple[Name, ...]:
    """Several names of one owner, of the server's versions."""
    return _of(owner, listed, use, since=_LATEST, **facts)


def one(path: str, use: Use = Use.READ, *leading: str, **facts: Any) -> Name:
    """One name, of the server's versions."""
    return Name(path, use, leading, since=_LATEST, **facts)


_CLIENT = (
    one("vllm.engine.protocol:EngineClient"),
    one(
        _ASYNC + "generate",
        Use.WRAPPED,
        "prompt",
        "sampling_params",
        "request_id",
        keywords=(
            "data_parallel_rank",
            "priority",
            "reasoning_ended",
            "reasoning_parser_kwargs",
            "trace_headers",
        ),
    ),
    one(_ASYNC + "check_admission", Use.WRAPPED, "n", "request_id", exact=True),
    one(_ASYNC + "abort", Use.CALLED, "request_id"),
    one(_ASYNC + "get_tokenizer", Use.CALLED),
    one("vllm.v1.engine.detokenizer:IncrementalDetokenizer"),
    one(_DETOKENIZER + "from_new_request", Use.CALLED, "tokenizer", "request"),
    one(_DETOKENIZER + "update", Use.CALLED, "new_token_ids", "stop_terminated"),
    one(_DETOKENIZER + "get_next_output_text", Use.CALLED, "finished", "delta"),
    one(_DETOKENIZER + "num_output_tokens", Use.CALLED),
    one(_DETOKENIZER + "output_token_ids"),
    one("vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.stream"),
    one("vllm.model_executor.models:registry"),
    one("vllm.model_executor.models.registry:_run_in_subprocess", Use.WRAPPED),
    one(_ASYNC + "collective_rpc", Use.CALLED, "method", keywords=("args",)),
    one(_ASYNC + "is_paused", Use.CALLED),
    one(_ASYNC + "pause_generation", Use.CALLED, keywords=("mode", "clear_cache")),
    *of(_ASYNC, "resume_generation reset_prefix_cache get_supported_tasks", Use.CALLED),
    *of(_ASYNC, "engine_core errored model_config output_processor renderer vllm_config"),
    one("vllm.renderers:BaseRenderer.get_tokenizer", Use.CALLED),
    one(_CORE_CLIENT + "AsyncMPClient.core_engines"),
    one(
        _CORE_CLIENT + "AsyncMPClient._call_utility_async",
        Use.CALLED,
        "method",
        keywords=("engine",),
    ),
    one(
        "vllm.v1.engine.output_processor:OutputProcessor.process_outputs",
        Use.WRAPPED,
        "engine_core_outputs",
    ),
    one("vllm.v1.engine.parallel_sampling:ParentRequest.get_child_info", Use.CALLED, "index"),
    *of("vllm.v1.engine:EngineCoreOutput.", "kv_transfer_params new_token_ids request_id"),
    *of("vllm.v1.engine.output_processor:OutputProcessor.", "external_req_ids request_states"),
    one("vllm.v1.engine.output_processor:RequestState.detokenizer"),
    one("vllm.exceptions:GracefulHTTPError", Use.CALLED, "message", "http_status"),
    one("vllm.exceptions:VLLMClientError"),
    one("vllm.exceptions:GenerationError", Use.CALLED, "message"),
    one("vllm.v1.engine.output_processor:OutputProcessor.propagate_error", Use.CALLED, "e"),
    one("vllm.exceptions:VLLMValidationError", Use.CALLED, "message", keywords=("parameter",)),
    one("vllm.inputs:tokens_input", Use.CALLED, "prompt_token_ids"),
)

_REQUESTS = (
    *of(
        "vllm.sampling_params:SamplingParams.",
        "allowed_token_ids bad_words detokenize extra_args frequency_penalty ignore_eos logit_bias "
        "max_tokens min_tokens n output_kind presence_penalty repetition_detection "
        "repetition_penalty seed skip_clone stop stop_token_ids structured_outputs temperature "
        "thinking_token_budget",
    ),
    one("vllm.sampling_params:SamplingParams.clone", Use.CALLED),
    *of("vllm.sampling_params:RequestOutputKind.", "DELTA FINAL_ONLY"),
    *of(
        "vllm.outputs:RequestOutput.",
        "finished kv_transfer_params num_cached_tokens outputs prompt prompt_logprobs "
        "prompt_token_id_logprobs prompt_token_ids request_id",
    ),
    one(
        "vllm.outputs:RequestOutput",
        Use.CALLED,
        *("request_id", "prompt", "prompt_token_ids", "prompt_logprobs", "outputs"),
        keywords=("finished",),
    ),
    one(
        "vllm.outputs:CompletionOutput",
        Use.CALLED,
        *("index", "text", "token_ids", "cumulative_logprob", "logprobs"),
        keywords=("finish_reason",),
    ),
    *of(
        "vllm.outputs:CompletionOutput.",
        "finish_reason index logprobs sampling_mask stop_reason text token_ids",
    ),
)

_PARSERS = (
    *of(_PARSER + "ReasoningParserManager.", "list_registered", Use.CALLED),
    one(_PARSER + "ReasoningParserManager.get_reasoning_parser", Use.CALLED, "name"),
    one(_PARSER + "ReasoningParser.is_reasoning_end", Use.CALLED, "input_ids"),
    one(_PARSER + "ReasoningParser.extract_reasoning", Use.CALLED, "model_output", "request"),
    one("vllm.parser.engine.adapters:ParserEngineReasoningAdapter._parser_engine"),
    one("vllm.parser.engine.adapters:ParserEngineReasoningAdapter.reasoning_end_token_ids"),
    one("vllm.parser.engine.parser_engine:ParserEngine._turn_boundary_token_ids"),
    *of(
        "vllm.config:ReasoningConfig.",
        "enabled reasoning_parser reasoning_start_token_ids reasoning_end_token_ids "
        "natural_reasoning_end_token_ids",
    ),
    one("vllm.config:StructuredOutputsConfig.enable_in_reasoning"),
    one(_TOOLS + "ToolParserManager.list_registered", Use.CALLED),
    one(_TOOLS + "ToolParserManager.get_tool_parser", Use.CALLED, "name"),
    *of(_TOOLS + "ToolParser.", "default_tool_strict_level structural_tag_model"),
    one("vllm.tool_parsers.tool_strict_level:ToolStrictLevel.from_name", Use.CALLED, "name"),
    one("vllm.tool_parsers.utils:get_function_tools", Use.CALLED, "tools"),
    one("vllm.tokenizers:cached_get_tokenizer"),
    one("vllm.renderers.chat_utils:load_chat_template", Use.CALLED, "chat_template"),
)

_FRONT_END = (
    one("vllm.entrypoints.serve.utils.api_utils:cli_env_setup", Use.CALLED),
    one(_LAUNCHER + "api_server.entry:build_async_engine_client", Use.CALLED, "args"),
    one(
        _LAUNCHER + "api_server.app_state:init_app_state",
        Use.CALLED,
        "engine_client",
        "state",
        "args",
        "supported_tasks",
    ),
    one(_LAUNCHER + "app:build_app", Use.CALLED, "args", "supported_tasks", "model_config"),
    one(_LAUNCHER + "launcher:setup_server", Use.CALLED, "args", keywords=("reuse_port",)),
    one(_LAUNCHER + "launcher:serve_http", Use.CALLED, "app", keywords=("sock",)),
    one(_LAUNCHER + "utils.server_utils:get_uvicorn_log_config", Use.CALLED, "args"),
    one(_LAUNCHER + "cli_args:make_arg_parser", Use.CALLED, "parser"),
    one(_LAUNCHER + "cli_args:validate_parsed_serve_args", Use.CALLED, "args"),
    one("vllm.utils.argparse_utils:FlexibleArgumentParser.error", Use.WRAPPED, "message"),
    one("vllm.logger:configure_logging_from_args", Use.CALLED, "args"),
    one(_LAUNCHER + "api_server.app_state:*.openai_serving_models"),
    one(_LAUNCHER + "launcher:*.server"),
    one(_OPENAI + "models.serving:OpenAIServingModels.show_available_models", Use.WRAPPED),
    *of("vllm.entrypoints.serve.engine.protocol:", "ModelCard.id ModelList.data"),
    one("vllm.entrypoints.serve.middleware.x_request_id:XRequestIdMiddleware"),
    one("vllm.v1.metrics.prometheus:get_prometheus_registry", Use.CALLED),
    one("vllm.renderers.inputs.preprocess:prompt_to_seq", Use.CALLED, "prompt_or_prompts"),
    *of(
        _OPENAI + "chat_completion.protocol:ChatCompletionRequest.",
        "allowed_token_ids bad_words frequency_penalty include_reasoning logit_bias "
        "max_completion_tokens max_tokens messages min_tokens n parallel_tool_calls "
        "presence_penalty repetition_detection repetition_penalty response_format stop "
        "stop_token_ids stream structured_outputs temperature thinking_token_budget tools "
        "use_beam_search",
    ),
    *of(
        _OPENAI + "completion.protocol:CompletionRequest.",
        "allowed_token_ids bad_words frequency_penalty logit_bias max_tokens min_tokens n "
        "presence_penalty prompt prompt_embeds repetition_detection repetition_penalty "
        "response_format stop stop_token_ids stream structured_outputs temperature "
        "thinking_token_budget use_beam_search",
    ),
    *of(
        _OPENAI + "responses.protocol:ResponsesRequest.",
        "background frequency_penalty logit_bias max_output_tokens parallel_tool_calls "
        "presence_penalty repetition_penalty stop stream structured_outputs temperature text tools",
    ),
)

_COMMAND_LINE = (
    *of(
        "",
        "VLLM_API_KEY VLLM_CPU_KVCACHE_SPACE VLLM_CPU_OMP_THREADS_BIND "
        "VLLM_ENABLE_V1_MULTIPROCESSING VLLM_ENFORCE_STRICT_TOOL_CALLING "
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE VLLM_KEEP_ALIVE_ON_ENGINE_DEATH VLLM_LOGGING_LEVEL "
        "VLLM_NO_USAGE_STATS VLLM_PLUGINS VLLM_USE_MODELSCOPE VLLM_USE_RUST_FRONTEND "
        "VLLM_USE_V2_MODEL_RUNNER",
        Use.VARIABLE,
    ),
    *of(
        "",
        "additional_config allowed_media_domains api_key api_server_count block_size chat_template "
        "data_parallel_multi_port_external_lb data_parallel_size disable_uvicorn_access_log dtype "
        "enable_auto_tool_choice enable_chunked_prefill enable_dbo enable_hc_sp "
        "enable_request_id_headers enable_ssl_refresh "
        "enforce_eager grpc h11_max_header_count h11_max_incomplete_event_size headless hf_token "
        "host kv_cache_memory_bytes kv_sharing_fast_prefill kv_transfer_config max_model_len model "
        "model_tag otlp_traces_endpoint pipeline_parallel_size port prefill_context_parallel_size "
        "quantization reasoning_parser revision scheduling_policy served_model_name "
        "shutdown_timeout skip_tokenizer_init spec_method spec_model speculative_config "
        "ssl_ca_certs ssl_cert_reqs ssl_certfile ssl_ciphers ssl_keyfile "
        "structured_outputs_config tensor_parallel_size tokenizer tokenizer_mode "
        "tokenizer_revision tool_call_parser tool_strict_level trust_remote_code ubatch_size "
        "uvicorn_log_level",
        Use.ARGUMENT,
    ),
)

_OFFLINE = (
    one(_LLM + "from_engine_args", Use.CALLED, "engine_args"),
    one(_LLM + "collective_rpc", Use.CALLED, "method", keywords=("args",)),
    one(_LLM + "sleep", Use.CALLED, keywords=("level", "mode")),
    one(_LLM + "wake_up", Use.CALLED, keywords=("tags",)),
    *of(_LLM, "get_tokenizer reset_prefix_cache", Use.CALLED),
    *of(_LLM, "llm_engine request_counter"),
    one(_LLM_ENGINE + "add_request", Use.CALLED, "request_id", "prompt", "params"),
    one(_LLM_ENGINE + "abort_request", Use.CALLED, "request_ids", keywords=("internal",)),
    *of(_LLM_ENGINE, "has_unfinished_requests step", Use.CALLED),
    *of(_LLM_ENGINE, "engine_core model_config vllm_config"),
    one(_CORE_CLIENT + "EngineCoreClient.shutdown", Use.CALLED),
    one("vllm:EngineArgs.from_cli_args", Use.CALLED, "args"),
    one("vllm:EngineArgs.create_model_config", Use.CALLED),
    *of("vllm:EngineArgs.", "disable_log_stats enable_prefix_caching"),
)

SERVER: tuple[Name, ...] = (
    *_CLIENT,
    *_REQUESTS,
    *_PARSERS,
    *_FRONT_END,
    *_COMMAND_LINE,
    *_OFFLINE,
)
