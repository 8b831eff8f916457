"""Scope of one controlled HTTP request: from the middleware to the engine, and back."""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from steersman.ledger import Ledger
from steersman.plan import Plan
from steersman.request import Endpoint
from steersman.tracing import NO_SPAN, Span
from steersman_client import AppliedEdit, Receipt


@dataclass(frozen=True, slots=True)
class ControlScope:
    """One HTTP request: its plan, and the books that the engine keeps for it.

    Attributes:
        plan: The plan.
        ledger: The books.
        room: Bounds its engine requests in flight.
        edits: Returns the weight edits that are live; called when the receipt is made.
        request_id: Id of the HTTP request.
        span: The request's.

    """

    plan: Plan
    ledger: Ledger
    room: asyncio.Semaphore
    edits: Callable[[], Sequence[AppliedEdit]] = field(default=tuple)
    request_id: str | None = None
    span: Span = NO_SPAN

    @classmethod
    def of(
        cls,
        plan: Plan,
        max_forks: int,
        edits: Callable[[], Sequence[AppliedEdit]] = tuple,
        request_id: str | None = None,
        span: Span = NO_SPAN,
    ) -> "ControlScope":
        """A scope with empty books.

        Args:
            plan: The request's plan.
            max_forks: Engine requests of it that may be in flight.
            edits: Returns the weight edits that are live.
            request_id: Id of the HTTP request.
            span: The request's.

        """
        in_turn = plan.request.endpoint is Endpoint.RESPONSES
        ledger, room = Ledger(in_turn=in_turn), asyncio.Semaphore(max_forks)
        return cls(plan, ledger, room, edits, request_id, span)

    def receipt(self) -> Receipt:
        return self.plan.receipt(self.ledger, self.edits(), self.request_id)


CONTROL: ContextVar[ControlScope | None] = ContextVar("steersman_control", default=None)
"""Set by the middleware for the request's own task and every task that it starts."""

REFUSED: ContextVar[bool] = ContextVar("steersman_refused", default=False)
"""Set while vLLM answers a request that has a control and was not planned, as vLLM refuses it:
nothing may be generated for it."""
