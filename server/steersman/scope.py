"""Scope of one controlled HTTP request: from the middleware to the engine, and back."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from steersman.ledger import Ledger, Run
from steersman.plan import Plan
from steersman.thinking.report import LiveTrack
from steersman_client import AppliedEdit, Leader, Receipt


@dataclass(frozen=True, slots=True)
class ControlScope:
    """One HTTP request: its plan, and the books that the engine keeps for it.

    Attributes:
        plan: What it will do.
        ledger: What it did.
        edits: What the model's weights have, asked when the receipt is made.

    """

    plan: Plan
    ledger: Ledger = field(default_factory=Ledger)
    edits: Callable[[], Sequence[AppliedEdit]] = tuple

    def receipt(self) -> Receipt:
        search = self.plan.search
        return self.ledger.receipt(
            profile=self.plan.profile,
            search=search.method if search else None,
            steering=self.plan.steering,
            edits=self.edits(),
            governing=self.plan.governing,
            monitor=self.plan.monitor,
            markers=self.plan.markers,
        )

    def progress(self) -> dict[str, int]:
        """A line of progress for a client that waits for the winner."""
        return {
            "finished": self.ledger.finished,
            "running": self.ledger.running,
            "tokens": self.ledger.sampled_tokens,
        }

    def leader(self) -> Leader | None:
        """The leading sibling and its new text, while one runs."""
        return self.ledger.runs[0].leader() if self.ledger.runs else None

    def live(self, index: int, run: Run) -> LiveTrack:
        """A reader of the values of one choice, which is a line of a run, as they are streamed."""
        monitor = self.plan.monitor
        listed = monitor is not None and monitor.tokens
        return LiveTrack(self.plan.markers, run.opened, index, listed)


CONTROL: ContextVar[ControlScope | None] = ContextVar("steersman_control", default=None)
"""Set by the middleware for the request's own task and every task that it starts."""

REFUSED: ContextVar[bool] = ContextVar("steersman_refused", default=False)
"""Set while vLLM answers a request that has a control and was not planned, as vLLM refuses it:
nothing may be generated for it."""
