"""The server assembled: vLLM's own app, its engine wrapped, the control middleware in front."""

import asyncio
import dataclasses
import functools
import logging
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import vllm.envs
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.renderers.chat_utils import load_chat_template
from vllm.v1.metrics.prometheus import get_prometheus_registry

from steersman.api import edits, guard, openapi, planned, ready, root, status, vectors
from steersman.api.admin import Admin, closed
from steersman.api.middleware import ControlMiddleware
from steersman.api.request_id import RequestIdMiddleware
from steersman.arguments import ArgumentError, keys_of
from steersman.digests import digests
from steersman.ending import TELLING_SECONDS, Ending, Starting
from steersman.engine.compat.models import list_more
from steersman.following import Follower
from steersman.frontend import parsers
from steersman.frontend.client import ControlledEngine
from steersman.frontend.describe import describe
from steersman.frontend.meter import Meter
from steersman.frontend.queue import Queue
from steersman.frontend.reasoning import Reasoning
from steersman.frontend.reports import Reports
from steersman.keys.ring import Keys
from steersman.observe.metrics import Metrics
from steersman.opening import open_desk
from steersman.options import Options
from steersman.plan import Planner
from steersman.profiles import Profile, Profiles
from steersman.reward.rewards import Rewards
from steersman.steering.plan import NoVectors
from steersman.tracing import Tracing

DEAD_ENGINE_SECONDS = 5.0
"""How long a server whose engine died goes on answering (503 on `/health`) before it exits."""

_POLL_SECONDS = 0.2

logger = logging.getLogger(__name__)


async def serve(args: Namespace, options: Options, starting: Starting) -> bool:
    """Serve until told to stop.

    Args:
        args: vLLM's serve arguments.
        options: Steersman's own.
        starting: Ends the process while it starts.

    Returns:
        Whether the engine was alive to the end. A supervisor should restart the process if not.

    Raises:
        steersman.profiles.ProfileError: A profile that this server could not serve.
        steersman.reward.file.RewardFileError: A reward that cannot be made.
        steersman.arguments.ArgumentError: The port is taken, or the keys are the same.
        steersman.keys.file.KeyFileError: Keys that cannot be used.
        steersman.frontend.ranks.SteeringError: Steering does not work on this engine.
        steersman.artifacts.artifact.ArtifactError: A vector or an edit that it cannot use.

    """
    presets = Profiles(options.profiles)
    follower = Follower(options.follow)
    if not follower.on:
        presets.load()
    rewards = Rewards.load(options.rewards)
    admin_key = options.steering.admin_key if options.steering else None
    keys = keys_of(args, admin_key, options.keys)
    try:
        address, sock = setup_server(args, reuse_port=False)
    except OSError as error:
        raise ArgumentError(f"cannot listen on port {args.port}: {error.strerror}") from error
    try:
        starting.check()
        async with build_async_engine_client(args) as engine:
            ending = Ending(args.shutdown_timeout)
            app = await assemble(engine, args, presets, rewards, options, keys, ending, follower)
            starting.check()
            watch = asyncio.create_task(_watch(app, engine, rewards, address, ending))
            try:
                async with follower.following():
                    shutdown = await serve_http(app, sock=sock, **_uvicorn_options(args))
            finally:
                alive = ending.begun or not watch.done()
                watch.cancel()
                ending.close()
        await shutdown
    finally:
        sock.close()
        await rewards.close()
    return alive


async def assemble(
    engine: EngineClient,
    args: Namespace,
    presets: Profiles,
    rewards: Rewards,
    options: Options,
    keys: Keys,
    ending: Ending,
    follower: Follower,
) -> FastAPI:
    """vLLM's application around a controlled engine.

    Args:
        engine: vLLM's running engine client.
        args: vLLM's serve arguments.
        presets: The server's profiles.
        rewards: The server's rewards.
        options: Steersman's own.
        keys: The server's keys.
        ending: Tells whether the server is about to end.
        follower: Follows the server's files.

    """
    names = tuple(args.served_model_name)
    tokenizer = engine.renderer.get_tokenizer()
    reasoning = Reasoning(engine.vllm_config, tokenizer, load_chat_template(args.chat_template))
    capabilities = describe(engine, reasoning.markers, names, options.limits)
    tools = args.tool_call_parser if args.enable_auto_tool_choice else None
    more = {
        "rewards": rewards.names,
        "tool_grammar": parsers.tool_grammar(tools, args.tool_strict_level),
    }
    capabilities = capabilities.model_copy(update=more)
    registry = get_prometheus_registry()
    desk, reports = None, Reports()
    if options.steering is not None:
        capabilities, desk = await open_desk(engine, capabilities, options.steering, follower)
        reports.listen(engine)
    planner = Planner(
        capabilities,
        presets,
        desk.store if desk else NoVectors(),
        desk.choosable if desk else None,
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
        rewards=rewards,
    )

    def check(profiles: Mapping[str, Profile]) -> None:
        dataclasses.replace(planner, profiles=profiles).check_profiles()

    follower.add("profiles", functools.partial(presets.follow, check))
    if follower.on:
        await follower.look()  # so that a bad file ends no start either
    else:
        check(presets)
    loaded = functools.partial(digests, desk, presets)
    metrics = Metrics(registry, desk, rewards, loaded, follower)
    # vLLM's own guard, which leaves many routes open, is not put up: no key means no guard.
    args.api_key = [""]
    args.enable_request_id_headers = False  # ours are on every answer: there would be two
    tasks = await engine.get_supported_tasks()
    app: FastAPI = build_app(args, tasks, engine.model_config)
    app.include_router(status.router(planner, loaded))
    app.include_router(planned.router(planner))
    app.include_router(ready.router(engine, ending))
    app.include_router(root.router(planner, keys))
    if desk is not None and options.steering is not None:
        admin = Admin(keys, options.steering.max_bytes, metrics.unauthorized)
        app.include_router(vectors.router(desk.store, admin))
        app.include_router(edits.router(desk.live, desk.edits, admin))
    else:
        app.include_router(closed("vector"))
        app.include_router(closed("edit"))
    openapi.describe_control(app)
    tracing = Tracing.of_server(args.otlp_traces_endpoint)
    controlled = ControlledEngine(Meter(Queue(engine)), reasoning, reports)
    await init_app_state(controlled, app.state, args, tasks)
    _list_profiles(app.state.openai_serving_models, names, presets)
    # Appended, so innermost: keys and CORS come before any control is looked at.
    app.user_middleware.append(
        Middleware(ControlMiddleware, planner=planner, metrics=metrics, desk=desk, tracing=tracing)
    )
    if keys.closed:
        guard.install(
            app,
            outside=(CORSMiddleware,),
            keys=keys,
            open_metrics=options.open_metrics,
            limited=metrics.limited,
            unauthorized=metrics.unauthorized,
        )
    # Around everything: errors that no route has answered have an id too.
    app.middleware_stack = RequestIdMiddleware(app.build_middleware_stack())
    return app


def _list_profiles(
    models: OpenAIServingModels, names: Sequence[str], presets: Iterable[str]
) -> None:
    """Have `/v1/models` list the names with a profile, which the middleware alone understands.

    vLLM must not: a request that came to it under such a name would be served without control.
    """

    def suffixed(cards: list[Any]) -> list[Any]:
        return [
            card.model_copy(update={"id": f"{card.id}:{suffix}"})
            for card in cards
            if card.id in names
            for suffix in presets
        ]

    list_more(models, suffixed)


async def _watch(
    app: FastAPI, engine: EngineClient, rewards: Rewards, address: str, ending: Ending
) -> None:
    """Say when the server is ready, then wait for the engine to die and end the server."""
    while not (hasattr(app.state, "server") and app.state.server.started):
        await asyncio.sleep(_POLL_SECONDS)
    # Instead of vLLM's handlers, which end the engine under the requests in flight.
    ending.listen(app.state.server, app.state.engine_client, rewards)
    logger.info("Steersman is ready: %s/v1, model %s", address, app.state.args.served_model_name[0])
    while not engine.errored:
        await asyncio.sleep(_POLL_SECONDS)
    logger.error("The engine has died; this server exits in %g s", DEAD_ENGINE_SECONDS)
    rewards.refuse("the engine has died")
    await asyncio.sleep(DEAD_ENGINE_SECONDS)
    # All that needs the engine has its error; nothing else is waited for, such as half a body.
    app.state.server.config.timeout_graceful_shutdown = 0
    app.state.server.should_exit = True
    app.state.server.force_exit = ending.begun  # that is waiting already


def _uvicorn_options(args: Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {
        "enable_ssl_refresh": args.enable_ssl_refresh,
        "host": args.host,
        "port": args.port,
        "log_level": args.uvicorn_log_level,
        "access_log": not args.disable_uvicorn_access_log,
        "timeout_graceful_shutdown": args.shutdown_timeout + TELLING_SECONDS,
        "timeout_keep_alive": vllm.envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
        "ssl_keyfile": args.ssl_keyfile,
        "ssl_certfile": args.ssl_certfile,
        "ssl_ca_certs": args.ssl_ca_certs,
        "ssl_cert_reqs": args.ssl_cert_reqs,
        "ssl_ciphers": args.ssl_ciphers,
        "h11_max_incomplete_event_size": args.h11_max_incomplete_event_size,
        "h11_max_header_count": args.h11_max_header_count,
    }
    log_config = get_uvicorn_log_config(args)
    return options if log_config is None else {**options, "log_config": log_config}
