"""The command line of the engine: vLLM's own arguments, with defaults that suit Steersman."""

import os
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import vllm.envs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.exceptions import VLLMClientError
from vllm.logger import configure_logging_from_args
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser

from steersman import by_model, cores, models
from steersman.engine.compat import connectors, inspection
from steersman.engine.settings import Settings
from steersman.keys.file import load
from steersman.keys.ring import Keys
from steersman.models.catalog import CONTROLS

_DEFAULTS = {
    # Below the 30 s that Kubernetes gives a container to end by itself.
    "shutdown_timeout": 25,
    # vLLM would fetch any address that a request names, those of the operator's network too. No
    # host has such a name.
    "allowed_media_domains": ["none: --allowed-media-domains names them"],
}
_CPU_DEFAULTS = {
    # A CPU is for a first try: compiling would delay the start by two minutes.
    "enforce_eager": True,
    # Whole blocks of a prompt are shared by branches: vLLM's 128 would share no short prompt.
    "block_size": 32,
    # vLLM rewinds the generator of a seeded request whose prompt it splits, which a CPU generator
    # cannot do: one such request would end the engine.
    "enable_chunked_prefill": False,
    # Of a long context as much as the cache has room for: vLLM would refuse to start.
    "max_model_len": -1,
}
_CPU_CACHE_GIB = "2"


class ArgumentError(Exception):
    """An engine argument that cannot work here; the message is one line."""


def parse(
    arguments: Sequence[str],
    engine: Settings | None = None,
    begun: Callable[[], None] = lambda: None,
) -> Namespace:
    """Parse vLLM's serve arguments; a built-in model's name is replaced by its directory.

    Fetches the built-in model if it is not in the cache yet.

    Args:
        arguments: The command line.
        engine: The engine's part of the server's options; None for an engine without steering.
        begun: Waits for a process that has begun to make the built-in model ready.

    Raises:
        ArgumentError: An argument is not vLLM's, has no such value, or asks for a server that
            controls could not reach.
        steersman.models.ModelError: The built-in model cannot be had.

    """
    parser = make_arg_parser(_Parser(prog="steersman serve"))
    parser.set_defaults(model=None)  # vLLM's own default is not ours
    parser.set_defaults(**_DEFAULTS, **dict.fromkeys(by_model.ARGUMENTS))
    if current_platform.is_cpu():
        parser.set_defaults(**_CPU_DEFAULTS)
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_CACHE_GIB)
        inspection.inspect_here()
    args: Namespace = parser.parse_args(list(arguments))
    _refuse(args)
    if current_platform.is_cpu():
        cores.use_all(args)
        if args.pipeline_parallel_size > 1:
            # vLLM's pipeline stages work on CPUs only when compiled.
            args.enforce_eager = False
    if engine is not None:
        steer(args, engine)
    configure_logging_from_args(args)
    _set_model(args, begun)
    try:
        validate_parsed_serve_args(args)
    except (TypeError, ValueError, VLLMClientError) as error:
        raise ArgumentError(str(error).removeprefix("Error: ")) from error
    return args


def steer(args: Namespace, engine: Settings) -> None:
    """Have the engine of parsed arguments steered.

    Raises:
        ArgumentError: An argument would put a vector on the wrong token, or on none.

    """
    _refuse_with_steering(args)
    args.additional_config = engine.added_to(args.additional_config or {})


def controls_of(args: Namespace) -> Path | None:
    """Controls that a model directory ships: `vectors`, `edits` and `profiles.yaml`."""
    directory = Path(args.model) / CONTROLS
    return directory if directory.is_dir() else None


def keys_of(args: Namespace, admin_key: str | None, path: Path | None) -> Keys:
    """The keys of the command line, of the environment and of the operator's file.

    Args:
        args: The parsed arguments; VLLM_API_KEY counts where they have no key.
        admin_key: The key of `--admin-api-key`.
        path: The file.

    Raises:
        ArgumentError: The admin key is for everybody, or a key's priority would be an error.
        steersman.keys.file.KeyFileError: Keys that cannot be used.

    """
    api_keys = [key for key in args.api_key or [vllm.envs.VLLM_API_KEY] if key]
    if admin_key and admin_key in api_keys:
        raise ArgumentError("--admin-api-key must differ from --api-key: that one is for everybody")
    keys = Keys(api_keys, admin_key, load(path) if path else None)
    if any(key.priority for key in keys) and args.scheduling_policy != "priority":
        raise ArgumentError("keys with a priority need --scheduling-policy priority")
    return keys


class _Parser(FlexibleArgumentParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        """Raise an error of the parser, instead of printing it under the names of all arguments."""
        raise ArgumentError(" ".join(message.split()))


def _refuse(args: Namespace) -> None:
    reasons = {
        "--api-server-count": (args.api_server_count or 1) > 1
        and "the branches of a request must stay in one API server process; run more replicas "
        "behind a load balancer instead",
        "--headless": args.headless
        and "a headless process has no API server to control requests in",
        "--grpc": args.grpc and "controls travel over HTTP",
        "--data-parallel-multi-port-external-lb": args.data_parallel_multi_port_external_lb
        and "it starts several API server processes; run one steersman for each rank",
        "--enable-chunked-prefill": current_platform.is_cpu()
        and args.enable_chunked_prefill
        and "on a CPU, a seeded request whose prompt is split ends vLLM's engine",
        "VLLM_USE_RUST_FRONTEND": os.environ.get("VLLM_USE_RUST_FRONTEND", "0") != "0"
        and "controls live in the Python front end",
    }
    for argument, reason in reasons.items():
        if reason:
            raise ArgumentError(f"{argument} cannot be used: {reason}")


def _refuse_with_steering(args: Namespace) -> None:
    """Refuse arguments that would put a vector on the wrong token, or on none."""
    reasons = {
        "--speculative-config": (args.speculative_config or args.spec_method or args.spec_model)
        and "a rejected draft token would be counted, and could close the thinking phase",
        "--enable-dbo": args.enable_dbo and "its half batches number their tokens anew",
        "--ubatch-size": args.ubatch_size > 1 and "its part batches number their tokens anew",
        "--prefill-context-parallel-size": args.prefill_context_parallel_size > 1
        and "each rank has other tokens of a prompt",
        # Not in earlier versions of vLLM.
        "--enable-hc-sp": getattr(args, "enable_hc_sp", False)
        and "each rank has other tokens of a batch",
        "--kv-sharing-fast-prefill": args.kv_sharing_fast_prefill
        and "its last layers leave out tokens of a prompt",
        "--kv-transfer-config": connectors.refusal(args.kv_transfer_config),
    }
    for argument, reason in reasons.items():
        if reason:
            raise ArgumentError(
                f"{argument} cannot be used with steering: {reason}; add --no-steering to serve "
                "without steering"
            )
    plugins = os.environ.get("VLLM_PLUGINS")
    if plugins is not None and "steersman" not in plugins.split(","):
        raise ArgumentError("VLLM_PLUGINS must name steersman too, or steering never starts")


def _set_model(args: Namespace, begun: Callable[[], None]) -> None:
    name = args.model_tag or args.model or models.DEFAULT
    args.model = name
    if name.startswith((".", "/", "~")):
        directory = Path(name).expanduser()
        if not directory.exists():
            raise ArgumentError(f"there is no model directory {directory}")
        args.model = str(directory)
    model = models.BUILT_IN.get(name)
    if model is not None:
        begun()
        with models.ConsoleProgress() as progress:
            args.model = str(models.prepare(name, progress=progress))
        # Nothing of a built-in model is on the hub: asking it would only cost time.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    by_model.complete(args, model)
    if args.served_model_name is None:
        args.served_model_name = [name]
