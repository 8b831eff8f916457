"""`POST /v1/control/plan`: the plan of a request and the most that it can cost; nothing runs."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from steersman.api import body, deadline, facts
from steersman.api.refusal import Refusal
from steersman.controls.limits import LimitsPart
from steersman.errors import ControlError
from steersman.plan import Plan, Planner
from steersman.request import Endpoint

PATH = "/v1/control/plan"


class Planned(BaseModel):
    """Plan of a request."""

    endpoint: Endpoint
    method: str
    """The search method, or `plain`."""
    profile: str | None
    control: dict[str, Any]
    """The control with its profile in it: the fields that were set, and nothing else."""
    prompts: int
    branches: int
    """Engine requests that run side by side, for all prompts."""
    max_tokens: int
    """Tokens of one branch at most."""
    max_sampled_tokens: int
    """Tokens of the whole request at most, losers included."""

    @classmethod
    def of(cls, plan: Plan, longest: int) -> "Planned":
        """The plan in numbers.

        Args:
            plan: The plan.
            longest: Tokens of the model's context.

        """
        request = plan.request
        branches = plan.branches(request.choices) * request.prompts
        limits = plan.part(LimitsPart)
        asked = limits.limits.max_sampled_tokens if limits else None
        whole = plan.max_tokens if asked is None else min(asked, plan.max_tokens)
        forks = any(part.forks() for part in plan.parts)
        named = longest if request.max_tokens is None else request.max_tokens
        each = min(named, longest, whole, max(1, plan.max_tokens // branches))
        return cls(
            endpoint=request.endpoint,
            method=plan.method,
            profile=plan.profile,
            control=plan.control,
            prompts=request.prompts,
            branches=branches,
            max_tokens=each,
            max_sampled_tokens=whole if forks else min(whole, each * branches),
        )


def router(planner: Planner) -> APIRouter:
    """The route. It takes the very body that the endpoint takes."""
    routes = APIRouter(tags=["control"])
    limit, model = planner.capabilities.limits.max_body_bytes, planner.capabilities.model

    @routes.post(PATH, response_model=Planned)
    async def plan(request: Request, endpoint: str = Endpoint.CHAT) -> Response:
        """Plan a request as `endpoint` would, and say what it would cost at most."""
        try:
            content = await body.read(request.receive, limit)
            seconds = deadline.read(request.headers)
            planned = _plan(planner, content or b"", endpoint, seconds)
        except ControlError as error:
            return Refusal(error)
        return JSONResponse(Planned.of(planned, model.max_model_len).model_dump(mode="json"))

    return routes


def _plan(planner: Planner, content: bytes, endpoint: str, seconds: float | None) -> Plan:
    if endpoint not in set(Endpoint):
        raise ControlError(
            f"{endpoint!r} does not take control; these do: {', '.join(Endpoint)}",
            param="endpoint",
        )
    names = planner.capabilities.model.names
    controlled = body.take_control(content, names, planner.profiles)
    rest = body.plain(content) if controlled is None else controlled.rest
    server = planner.capabilities
    request = None
    if rest is not None:
        request = facts.read(Endpoint(endpoint), rest, server.tool_grammar, server.defaults)
    if request is None:
        raise ControlError(f"this is no body that {endpoint} takes", param=None)
    if request.choices < 1:
        raise ControlError(f"n must be at least 1, not {request.choices}", param="n")
    if request.max_tokens is not None and request.max_tokens < 0:
        field = request.max_tokens_field
        raise ControlError(
            f"{field} must not be negative, and is {request.max_tokens}", param=field
        )
    suffix = None if controlled is None else controlled.profile_suffix
    control = None if controlled is None else controlled.control
    return planner.plan(control, request, profile_suffix=suffix, seconds=seconds)
