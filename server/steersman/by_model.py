"""Arguments that follow from the model: its number type, and its parsers."""

import logging
from argparse import Namespace

import torch
import vllm.envs
from vllm.exceptions import VLLMClientError
from vllm.platforms import current_platform
from vllm.renderers.chat_utils import load_chat_template

from steersman import families, memory, precision
from steersman.frontend import parsers
from steersman.models.catalog import BuiltIn
from steersman.models.files import ModelFiles

ARGUMENTS = ("dtype", "reasoning_parser", "tool_call_parser", "enable_auto_tool_choice")
"""Arguments that are chosen here when they are None; vLLM's defaults hide whether one was given."""

_NO_PARSER = "none"
"""The value that keeps a parser from being chosen."""

logger = logging.getLogger(__name__)


def complete(args: Namespace, model: BuiltIn | None) -> None:
    """Choose the settings that were left open.

    Args:
        args: vLLM's arguments, with the model's directory or id.
        model: The built-in model, if it is one.

    """
    files = _files(args, args.model, args.revision)
    if args.dtype is None:
        args.dtype = _dtype(args, model, files)
    _set_parsers(args, model, files)


def _files(args: Namespace, name: str, revision: str | None) -> ModelFiles:
    return ModelFiles(name, revision, args.hf_token, hub=not vllm.envs.VLLM_USE_MODELSCOPE)


def _dtype(args: Namespace, model: BuiltIn | None, files: ModelFiles) -> str:
    if not current_platform.is_cpu() or _has_native_bfloat16() or args.quantization:
        return precision.AUTO
    if model is not None:
        return "float32"
    chosen = precision.for_plain_cpu(files, _room(args))
    if chosen.reason is not None:
        logger.info("Number type %s: %s", chosen.dtype, chosen.reason)
    return chosen.dtype


def _has_native_bfloat16() -> bool:
    """Tell whether this CPU multiplies bfloat16; emulated, it is slower than float32."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))


def _room(args: Namespace) -> precision.Room:
    cache = args.kv_cache_memory_bytes or int(vllm.envs.VLLM_CPU_KVCACHE_SPACE or 0) * 2**30
    ranks = args.tensor_parallel_size * args.pipeline_parallel_size * args.data_parallel_size
    return precision.Room(memory.available(), cache * ranks, args.data_parallel_size)


def _set_parsers(args: Namespace, model: BuiltIn | None, files: ModelFiles) -> None:
    configured = getattr(args.structured_outputs_config, "reasoning_parser", None)
    open_reasoning = args.reasoning_parser is None and not configured
    open_tools = args.tool_call_parser is None and args.enable_auto_tool_choice is not False
    if model is not None:
        args.reasoning_parser = args.reasoning_parser or model.reasoning_parser
    elif not args.skip_tokenizer_init and (open_reasoning or open_tools):
        found = _Fitting(args, files)
        if open_reasoning:
            args.reasoning_parser = found.reasoning()
        if open_tools:
            args.tool_call_parser = found.tools()
    if args.reasoning_parser in (None, _NO_PARSER):
        args.reasoning_parser = ""
    if args.tool_call_parser == _NO_PARSER:
        args.tool_call_parser = None
    if args.enable_auto_tool_choice is None:
        args.enable_auto_tool_choice = args.tool_call_parser is not None


class _Fitting:
    """The parsers of a model's family, as far as they work with its tokenizer."""

    def __init__(self, args: Namespace, files: ModelFiles) -> None:
        self._args = args
        self._config = files.config
        self._template = ""
        if not self._config:
            return
        tokenizer = args.tokenizer or args.model
        revision = args.tokenizer_revision or args.revision
        try:
            named = load_chat_template(args.chat_template)
        except VLLMClientError:
            return  # vLLM's check of the arguments says what is wrong with it
        self._template = named or _files(args, tokenizer, revision).chat_template()

    def reasoning(self) -> str | None:
        offered = parsers.reasoning_parsers()
        name = families.parser_of(self._config, self._template, families.REASONING, offered)
        return self._checked(name, "reasoning-parser", tools=False)

    def tools(self) -> str | None:
        offered = parsers.tool_parsers()
        name = families.parser_of(self._config, self._template, families.TOOLS, offered)
        return self._checked(name, "tool-call-parser", tools=True)

    def _checked(self, name: str | None, argument: str, *, tools: bool) -> str | None:
        args = self._args
        if name is None:
            return None
        tokenizer = parsers.tokenizer_of(
            args.tokenizer or args.model,
            mode=args.tokenizer_mode,
            revision=args.tokenizer_revision or args.revision,
            trust_remote_code=args.trust_remote_code,
        )
        if tokenizer is None:
            return None
        if reason := parsers.refusal(name, tokenizer, tools=tools):
            logger.warning("--%s %s does not fit this model: %s", argument, name, reason)
            return None
        family = self._config["model_type"]
        logger.info("--%s %s, for a model of the family %s", argument, name, family)
        return name
