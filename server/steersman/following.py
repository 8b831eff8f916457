"""Files that operators change while servers run: each server that follows them takes changes over.

Replicas share files by a volume: directories of vectors and edits, a file of profiles. An upload to
one replica is written there, and a file can be put there by hand. So the files are what all
replicas agree on, and no replica talks to another.

A `Follower` has every store look at its own files, twice within the time in which a change is to
take effect. It looks, as volumes of several machines (NFS) tell nobody of changes. `Looks` finds
what has changed: by the stamps of the files, so that nothing is read again in vain, and only once
two looks in a row have found the same, so that a file which is still being written is left alone.
The store reads and checks a changed file as it would an upload. What is refused is a fault, in one
line: the store goes on with what it had, and the follower says the fault once and counts it for as
long as it lasts.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

S = TypeVar("S")

Follow = Callable[[], Awaitable[Iterable[str]]]
"""Looks at some files and takes in what has changed; gives each fault that they have, in a line
that is the same for as long as the fault lasts."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Facts of a file that change with its content, or with the file in its place."""

    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> "Stamp | None":
        """The stamp of a file; None if it is not there.

        Raises:
            OSError: Nobody can tell.

        """
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


class Looks(Generic[S]):
    """Compares what is found by name, such as stamps of files, with what was taken in before."""

    def __init__(self) -> None:
        self._last: Mapping[str, S] | None = None
        self._taken: dict[str, S] = {}
        self._again: set[str] = set()

    def changed(self, found: Mapping[str, S]) -> list[str]:
        """Names of what is to be taken in now, sorted: new, another one, or gone (not found).

        It is as it was at the look before; the first look takes everything as it is.
        """
        last = found if self._last is None else self._last
        self._last = dict(found)
        return [
            name
            for name in sorted(found.keys() | self._taken.keys() | self._again)
            if found.get(name) == last.get(name)
            and (found.get(name) != self._taken.get(name) or name in self._again)
        ]

    def take(self, name: str, state: S | None) -> None:
        """Remember what was taken in, or that it is gone (None)."""
        self._again.discard(name)
        if state is None:
            self._taken.pop(name, None)
        else:
            self._taken[name] = state

    def taken(self, name: str) -> S | None:
        """State that was taken in last."""
        return self._taken.get(name)

    def again(self, name: str) -> None:
        """Have it count as changed, until it is taken in anew."""
        self._again.add(name)


class Follower:
    """Follows the files of a server, kind by kind.

    Args:
        seconds: Within which a change takes effect; 0 does not follow.

    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._kinds: dict[str, Follow] = {}
        self._faults: dict[str, frozenset[str]] = {}
        self._looked = time.monotonic()

    @property
    def on(self) -> bool:
        """True if files are followed."""
        return self._seconds > 0

    def add(self, kind: str, follow: Follow) -> None:
        """Follow one more kind of files, after those that are there already."""
        self._kinds[kind] = follow

    def faults(self, kind: str) -> int:
        """Number of files of a kind that cannot be used."""
        return len(self._faults.get(kind, ()))

    def age(self) -> float:
        """Seconds since all files were last looked at; 0 if they are not followed.

        A volume that does not answer holds a look up for as long as it pleases.
        """
        return time.monotonic() - self._looked if self.on else 0.0

    async def look(self) -> None:
        """Look at all files once, and say which faults are new, and which are gone."""
        for kind, follow in self._kinds.items():
            before = self._faults.get(kind, frozenset())
            try:
                now = frozenset(await follow())
            except Exception as error:  # or no file at all would be followed any more
                now = frozenset((f"the {kind} cannot be followed: {error!r}",))
                if now != before:
                    logger.exception("Looking for changes of the %s failed", kind)
            for fault in sorted(now - before):
                logger.warning("Not used: %s", fault)
            for fault in sorted(before - now):
                logger.info("No longer: %s", fault)
            self._faults[kind] = now
        self._looked = time.monotonic()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncGenerator[None]:
        """Look again and again for the body of the `async with`."""
        if not self.on:
            yield
            return
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 2)
            await self.look()
