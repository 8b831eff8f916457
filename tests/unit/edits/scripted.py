"""A scripted engine for edits: rows that hold them, and weights that have them."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from steersman.capabilities import Model
from steersman.edits.edit import Edit, EditError
from tests.unit.edits import made_up

if TYPE_CHECKING:
    from steersman.artifacts.artifact import HostError

MODEL = Model(
    names=("m",),
    architecture="A",
    hidden_size=made_up.HIDDEN,
    layers=made_up.LAYERS,
    vocabulary=50,
    max_model_len=64,
)
REFUSED = "two edits change a head"


class ScriptedEngine:
    """Remembers what it was told, can refuse and can wait.

    Attributes:
        rows: Digests of the edits on offer.
        weights: Digests of the edits that the weights have.
        tried: How often the weights were to be changed.
        applied: How often they were.
        waiting: Calls that wait.
        refuses: Calls fail while this is set.
        fails: Raised by calls; None to raise nothing.
        goes_on: Calls wait until this is set; it is at first.

    """

    def __init__(self) -> None:
        self.rows: set[str] = set()
        self.weights: list[str] = []
        self.tried = 0
        self.applied = 0
        self.waiting = 0
        self.refuses = False
        self.fails: HostError | None = None
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def load(self, edit: Edit) -> None:
        await self._called()
        assert edit.digest not in self.rows
        self.rows.add(edit.digest)

    async def unload(self, digest: str) -> None:
        self.rows.remove(digest)

    async def apply(self, edits: Sequence[Edit]) -> None:
        self.tried += 1
        await self._called()
        self.applied += 1
        self.weights = [edit.digest for edit in edits]

    async def _called(self) -> None:
        self.waiting += 1
        await self.goes_on.wait()
        self.waiting -= 1
        if self.fails is not None:
            raise self.fails
        if self.refuses:
            raise EditError(REFUSED, field="edit")
