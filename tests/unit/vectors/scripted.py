"""A scripted engine for the store: it remembers what it was told, can refuse and can wait."""

import asyncio

from steersman.vectors.vector import Vector


class EngineError(Exception):
    """Error of the scripted engine."""


class ScriptedHost:
    """Records each call as `load DIGEST` or `unload DIGEST`, of the digest 16 digits.

    Attributes:
        calls: The calls, in their order.
        refuses: Calls fail while this is set.
        goes_on: Calls wait until this is set; it is at first.

    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuses = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self._vectors: set[str] = set()

    @property
    def digests(self) -> set[str]:
        """Digests of the vectors that are there."""
        return self._vectors

    async def load(self, vector: Vector) -> None:
        await self._called("load", vector.digest)
        assert vector.digest not in self._vectors
        self._vectors.add(vector.digest)

    async def unload(self, digest: str) -> None:
        await self._called("unload", digest)
        self._vectors.remove(digest)

    async def _called(self, call: str, digest: str) -> None:
        self.calls.append(f"{call} {digest[:16]}")
        await self.goes_on.wait()
        if self.refuses:
            raise EngineError(call)
