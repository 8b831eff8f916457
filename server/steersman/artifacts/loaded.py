"""Artifacts on the engine, by digest, and the users of each: names of a store, and requests."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Generic

from steersman.artifacts.artifact import A, ArtifactError, Host

logger = logging.getLogger(__name__)


class Loaded(Generic[A]):
    """Artifacts on the engine, each loaded once and unloaded once no request needs it.

    Args:
        noun: The word for one of them, in messages.
        host: The engine. It gets one call at a time.

    """

    def __init__(self, noun: str, host: Host[A]) -> None:
        self._noun = noun
        self._host = host
        self._there: set[str] = set()
        self._needed: Counter[str] = Counter()
        self._calling = asyncio.Lock()
        self._unloading: set[asyncio.Task[None]] = set()

    async def take(self, artifact: A) -> None:
        """Need an artifact, and load it if it is not there.

        Raises:
            Exception: Whatever the host raises; the artifact is then not needed.

        """
        async with self._calling:
            if artifact.digest not in self._there:
                await self._host.load(artifact)
                self._there.add(artifact.digest)
            self._needed[artifact.digest] += 1

    def drop(self, digest: str) -> None:
        """Undo one `take`. The artifact leaves if that was the last, soon: see `settle`."""
        self._needed[digest] -= 1
        if not self._needed[digest]:
            task = asyncio.get_running_loop().create_task(self._unload(digest))
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)

    @contextlib.contextmanager
    def holding(self, artifacts: Iterable[A]) -> Iterator[None]:
        """Need artifacts that are there for the body of the `with`.

        Raises:
            ArtifactError: One is not there any more.

        """
        digests = {artifact.digest for artifact in artifacts}
        gone = digests - self._there
        if gone:
            raise ArtifactError(
                f"{self._noun} {min(gone)[:16]} was deleted while this request came in",
                field=self._noun,
            )
        self._needed.update(digests)
        try:
            yield
        finally:
            for digest in digests:
                self.drop(digest)

    async def settle(self) -> None:
        """Wait for every unload that is under way."""
        if self._unloading:
            await asyncio.wait(self._unloading)

    async def _unload(self, digest: str) -> None:
        async with self._calling:
            if self._needed[digest] or digest not in self._there:
                return
            # First, so that no request takes hold of it meanwhile.
            self._there.remove(digest)
            del self._needed[digest]
            try:
                await self._host.unload(digest)
            except Exception:
                logger.exception(
                    "%s %s could not be unloaded from the engine", self._noun, digest[:16]
                )
