"""Access to routes: the scopes of keys that open each of them."""

import re

from starlette.types import Scope as Connection

from steersman.keys.key import Scope

OPEN = frozenset({"/", "/health", "/ping", "/ready"})
"""Paths that need no key: liveness, readiness, and the page that tells a stranger nothing."""
METRICS = "/metrics"
CONTROL = "/v1/control/"
_FILES = (f"{CONTROL}vectors/", f"{CONTROL}edits/")
"""Beginnings of the paths that may answer with a whole file."""
_BODIES = frozenset({"POST", "PUT", "PATCH"})
"""Methods of requests with a body."""
_CANCEL = re.compile(r"/v1/responses/[^/]+/cancel")

OPERATORS = frozenset(
    {
        "/abort_requests",
        "/collective_rpc",
        "/fault_tolerance/apply",
        "/fault_tolerance/status",
        "/finish_weight_update",
        "/get_world_size",
        "/inference/v1/abort_requests",
        "/init_weight_transfer_engine",
        "/is_paused",
        "/is_scaling_elastic_ep",
        "/is_sleeping",
        "/kv_event_sources",
        "/pause",
        "/release_kv_cache_memory",
        "/reset_encoder_cache",
        "/reset_mm_cache",
        "/reset_prefix_cache",
        "/resume",
        "/scale_elastic_ep",
        "/server_info",
        "/shutdown_weight_transfer_engine",
        "/sleep",
        "/start_draft_weight_update",
        "/start_profile",
        "/start_weight_update",
        "/stop_profile",
        "/update_weight_version",
        "/update_weights",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/wake_up",
        "/weight_checker",
        "/weight_info",
    }
)
"""vLLM's routes that change or inspect a running server; most exist only if its operator asks."""
_ADAPTERS = "/adapters"

_ANY = frozenset(Scope)
_ADMIN = frozenset({Scope.ADMIN})
_USE = frozenset({Scope.USE})
_CONTROL = frozenset({Scope.USE, Scope.ADMIN})


def path_of(connection: Connection) -> str:
    """The path as routes are matched by it: below the one that a proxy put the server under."""
    path: str = connection["path"]
    root = connection.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :]
    return path


def opening(path: str, *, operators: bool) -> frozenset[Scope]:
    """The scopes any of which opens a route.

    Args:
        path: The route's path.
        operators: Whether vLLM's routes of operators are for admin keys alone.

    """
    if path == METRICS:
        return _ANY
    if path.startswith(CONTROL):
        return _CONTROL  # what changes something asks for an admin key itself
    if path in OPERATORS or path == _ADAPTERS or path.startswith(f"{_ADAPTERS}/"):
        return _ADMIN if operators else _CONTROL
    return _USE


def cancels(path: str) -> bool:
    """Tell whether a path ends a response in the background."""
    return _CANCEL.fullmatch(path) is not None


def held(connection: Connection) -> bool:
    """Tell whether a request counts for its key's concurrency: it may work, or hold memory."""
    if connection["type"] == "websocket":
        return True
    path = path_of(connection)
    if connection["method"] in _BODIES:
        return not cancels(path)
    return connection["method"] in ("GET", "HEAD") and path.startswith(_FILES)


def samples(connection: Connection) -> bool:
    """Tell whether a request, of those, may make the engine sample tokens."""
    path = path_of(connection)
    return held(connection) and not path.startswith(CONTROL) and path not in OPERATORS
