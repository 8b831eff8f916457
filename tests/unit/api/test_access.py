"""The scopes that open each of vLLM's routes."""

from typing import Any

import pytest
from fastapi import FastAPI
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.tasks import POOLING_TASKS
from vllm.utils.argparse_utils import FlexibleArgumentParser

from steersman.api import access
from steersman.keys.key import Scope

USE = {
    *("/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc", "/load", "/version"),
    *("/tokenize", "/detokenize", "/tokenizer_info", "/invocations", "/inference/v1/generate"),
    *("/generative_scoring", "/v1/systemone", "/v1/models", "/v1/realtime"),
    *("/v1/chat/completions", "/v1/chat/completions/batch", "/v1/completions"),
    *("/v1/responses", "/v1/responses/{response_id}", "/v1/responses/{response_id}/cancel"),
    *("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/render"),
    *("/v1/chat/completions/render", "/v1/completions/render", "/v1/responses/render"),
    *("/v1/chat/completions/derender", "/v1/completions/derender"),
    *("/v1/audio/transcriptions", "/v1/audio/translations"),
}
"""Routes for asking the model."""


def paths(app: FastAPI) -> set[str]:
    return {path for route in app.routes if (path := getattr(route, "path", None))}


@pytest.fixture(scope="module")
def every() -> set[str]:
    """Paths of vLLM's application, with all that an operator can switch on."""
    arguments = ["--enable-lora", "--enable-tokenizer-info-endpoint"]
    args: Any = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    args.enable_fault_tolerance = args.enable_scale_out = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_SERVER_DEV_MODE", "1")
        patch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
        asked = ("generate", "transcription", "realtime", "render")
        apps = [build_app(args, tasks, None) for tasks in (asked, tuple(POOLING_TASKS))]
    return set().union(*map(paths, apps))


def test_each_route_is_for_somebody(every: set[str]) -> None:
    """A new route of vLLM's is looked at by a person before it is opened."""
    operators = {
        path
        for path in every
        if access.opening(path, operators=True) == {Scope.ADMIN} and path not in USE
    }
    left = every - USE - operators - access.OPEN - {access.METRICS}
    assert left == set()
    assert every >= USE - {"/redoc"}
    assert {path for path in operators if not path.startswith("/adapters")} <= access.OPERATORS
    assert len(operators) > 25


@pytest.mark.parametrize(
    ("path", "scopes", "without_admins"),
    [
        ("/v1/chat/completions", {Scope.USE}, {Scope.USE}),
        ("/nothing/here", {Scope.USE}, {Scope.USE}),
        ("/metrics", set(Scope), set(Scope)),
        ("/metrics/", {Scope.USE}, {Scope.USE}),
        ("/v1/control/capabilities", {Scope.USE, Scope.ADMIN}, {Scope.USE, Scope.ADMIN}),
        ("/sleep", {Scope.ADMIN}, {Scope.USE, Scope.ADMIN}),
        ("/adapters/x", {Scope.ADMIN}, {Scope.USE, Scope.ADMIN}),
    ],
)
def test_what_opens_a_route(path: str, scopes: set[Scope], without_admins: set[Scope]) -> None:
    assert access.opening(path, operators=True) == scopes
    assert access.opening(path, operators=False) == without_admins


@pytest.mark.parametrize(
    ("root", "path", "seen"),
    [
        ("", "/health", "/health"),
        ("/api", "/api/health", "/health"),
        ("/api", "/api", ""),
        ("/api", "/apihealth", "/apihealth"),
        ("/api", "/health", "/health"),
    ],
)
def test_a_path_is_seen_as_routes_see_it(root: str, path: str, seen: str) -> None:
    assert access.path_of({"type": "http", "path": path, "root_path": root}) == seen


@pytest.mark.parametrize(
    ("method", "path", "held", "samples"),
    [
        ("POST", "/v1/chat/completions", True, True),
        ("POST", "/invocations", True, True),
        ("POST", "/tokenize", True, True),
        ("POST", "/nothing/here/cancel", True, True),
        ("POST", "/v1/responses/a/b/cancel", True, True),
        ("GET", "/v1/models", False, False),
        ("GET", "/v1/control/capabilities", False, False),
        ("GET", "/v1/control/vectors/one", True, False),
        ("GET", "/v1/control/edits/one", True, False),
        ("PUT", "/v1/control/vectors/one", True, False),
        ("DELETE", "/v1/control/vectors/one", False, False),
        ("POST", "/v1/control/plan", True, False),
        ("POST", "/v1/responses/resp_1/cancel", False, False),
        ("POST", "/sleep", True, False),
    ],
)
def test_limits_hold_where_the_engine_works_or_memory_is_held(
    method: str, path: str, held: bool, samples: bool
) -> None:
    request = {"type": "http", "method": method, "path": path}
    assert access.held(request) is held
    assert access.samples(request) is samples
    assert access.samples({"type": "websocket", "path": "/v1/realtime"})
