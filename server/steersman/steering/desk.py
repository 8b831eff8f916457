"""Rows and edits that a request holds while it runs."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from steersman.artifacts.store import Store
from steersman.edits.edit import Edit
from steersman.edits.store import ChoosableEdits, LiveEdits
from steersman.steering.admission import Admission
from steersman.steering.plan import Steering
from steersman.vectors.vector import Vector
from steersman_client import AppliedEdit


@dataclass(frozen=True, slots=True)
class Desk:
    """Hands out bank rows and edits.

    Attributes:
        store: The vectors.
        admission: The rows of the engine's bank.
        live: The edits that the weights have.
        edits: The edits that requests can choose; None on a server without rows for them.

    """

    store: Store[Vector]
    admission: Admission
    live: LiveEdits
    edits: Store[Edit] | None = None

    @property
    def choosable(self) -> ChoosableEdits | None:
        """The edits that a request can choose; None on a server without rows for them."""
        return None if self.edits is None else ChoosableEdits(self.edits, self.live)

    @contextlib.asynccontextmanager
    async def taken(
        self, steering: Steering | None, within: float | None = None
    ) -> AsyncGenerator[None]:
        """Keep a request's vectors and edit loaded, and its rows, for the body of the `async with`.

        Args:
            steering: What it needs.
            within: Seconds to wait for rows at most, if the server would let it wait longer.

        Raises:
            ControlError: No rows came free in time.

        """
        if steering is None:
            yield
            return
        with contextlib.ExitStack() as held:
            held.enter_context(self.store.holding(steering.vectors))
            if self.edits is not None:
                held.enter_context(self.edits.holding(steering.edits))
            async with self.admission.admitted(steering.rows, within):
                yield

    def applied_edits(self) -> tuple[AppliedEdit, ...]:
        """The weight edits that are live, for a receipt."""
        return tuple(
            AppliedEdit(
                edit=entry.name, digest=entry.artifact.digest[:16], heads=entry.artifact.heads
            )
            for entry in self.live.entries
        )
