"""The control `limits`, and the server's limits on every request."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from steersman.controls.control import Control, Part, Planning
from steersman.errors import ControlError
from steersman.ledger import Ledger
from steersman_client import Limits

_POLL_SECONDS = 0.02
"""How often the time is looked at, and the sampled tokens are counted: a few engine steps."""


@dataclass(frozen=True, slots=True)
class LimitsPart(Part):
    """Limits of one request. At one of them the best response so far is returned.

    Attributes:
        limits: The limits.

    """

    limits: Limits
    _watched: "_Watched" = field(default_factory=lambda: _Watched(), repr=False, compare=False)

    def left(self, ledger: Ledger) -> int | None:
        """Tokens that the request may still sample; None without a limit."""
        tokens = self.limits.max_sampled_tokens
        return None if tokens is None else max(1, tokens - ledger.sampled_tokens)

    def applied(self, ledger: Ledger) -> Mapping[str, Any]:
        return {"stopped_by": ledger.stopped_by}

    @contextlib.asynccontextmanager
    async def watching(
        self, ledger: Ledger, stop: Callable[[], Coroutine[Any, Any, None]]
    ) -> AsyncGenerator[None]:
        """Stop a search at a limit, for as long as the body of the `async with` runs.

        The searches of one request are watched together: its tokens are counted once for all.

        Args:
            ledger: The books of the request; they take a note of the limit.
            stop: Stops the trajectories that run.

        """
        watched = self._watched
        watched.stops.append(stop)
        if watched.task is None:
            watched.task = asyncio.create_task(self._watch(ledger))
        try:
            yield
            if ledger.stopped_by is None and any(one.cut_off for one in ledger.generations):
                ledger.stopped_by = "max_sampled_tokens"
        finally:
            watched.stops.remove(stop)
            if not watched.stops:
                task, watched.task = watched.task, None
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, ledger: Ledger) -> None:
        while True:
            if ledger.stopped_by is None and ledger.busy:  # else there is nothing to be stopped
                ledger.stopped_by = self._reached(ledger)
            if ledger.stopped_by is not None:
                # Again and again: a search may start more.
                stopping = [stop() for stop in self._watched.stops]
                await asyncio.gather(*stopping, return_exceptions=True)
            await asyncio.sleep(_POLL_SECONDS)

    def _reached(self, ledger: Ledger) -> str | None:
        seconds, tokens = self.limits.max_seconds, self.limits.max_sampled_tokens
        if seconds is not None and ledger.seconds >= seconds:
            return "max_seconds"
        if tokens is not None and ledger.sampled_tokens >= tokens:
            return "max_sampled_tokens"
        return None


@dataclass(slots=True)
class _Watched:
    """Searches of a request that run, by what stops them, and the task that does it."""

    stops: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class LimitsControl(Control):
    """Limits of requests. It is planned last, as it looks at all other controls.

    What the branches can sample is bounded by the plan; what forks sample beside them is only known
    while they run, so a request with forks is held to the server's limit then.
    """

    fields = ("limits",)
    part = LimitsPart
    always = True

    def plan(self, planning: Planning) -> LimitsPart | None:
        _check_server_limits(planning)
        limits = planning.spec.limits or Limits()
        tokens = limits.max_sampled_tokens
        if any(part.forks() for part in planning.parts):
            most = planning.capabilities.limits.max_control_tokens
            tokens = most if tokens is None else min(tokens, most)
        if limits.max_seconds is None and tokens is None:
            return None
        return LimitsPart(limits.model_copy(update={"max_sampled_tokens": tokens}))


def _check_server_limits(planning: Planning) -> None:
    request, limits = planning.request, planning.capabilities.limits
    branches, field = request.choices, "n"
    for part in planning.parts:
        if (own := part.branches(request.choices)) is not None:
            branches, field = own, part.branches_field
    branches *= request.prompts
    if branches > limits.max_branches:
        prompts = f" for {request.prompts} prompts" if request.prompts > 1 else ""
        raise ControlError(
            f"{branches} branches{prompts} are over this server's limit of "
            f"{limits.max_branches} a request",
            param=field,
        )
    if request.max_tokens is not None:
        tokens = branches * min(request.max_tokens, planning.capabilities.model.max_model_len)
        if tokens > limits.max_control_tokens:
            raise ControlError(
                f"{branches} branches of {request.max_tokens} tokens are over this server's "
                f"limit of {limits.max_control_tokens} sampled tokens a request",
                param=request.max_tokens_field,
            )
