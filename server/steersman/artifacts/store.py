"""Artifacts of one kind by name; also on the engine, and as files in a directory."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic

from steersman.artifacts.artifact import A, ArtifactError, Host, Kind, UnknownArtifactError
from steersman.artifacts.files import MAX_BYTES, Changes, Entry, Files, check_name
from steersman.artifacts.loaded import Loaded
from steersman.capabilities import Model
from steersman.completion import completed

MAX_ENTRIES = 256
"""Names that a store may have, unless an option says otherwise."""

logger = logging.getLogger(__name__)


class Store(Generic[A]):
    """Artifacts by name. Two names may have the same content, which the engine then has once.

    An artifact in use stays on the engine until its request is over, even if its name is deleted
    or replaced meanwhile. Other servers may have the same directory: `follow` takes over what they
    do there. All of it is for one event loop.

    Args:
        kind: The kind of artifact that is kept.
        model: The served model, which every artifact must fit.
        host: The engine.
        directory: Where artifacts are kept over a restart; None keeps them in memory alone.
        shipped: A directory of artifacts to begin with, which is never written; those of
            `directory` count where both have a name.
        max_bytes: Size of one file.
        max_entries: Names that the store may have.

    """

    def __init__(
        self,
        kind: Kind[A],
        model: Model,
        host: Host[A],
        directory: Path | None = None,
        shipped: Path | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self.noun = kind.noun
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self._loaded = Loaded(kind.noun, host)
        self._files = Files(kind, model, directory, max_bytes=max_bytes)
        self._shipped = Files(kind, model, shipped, max_bytes=max_bytes)
        self._entries: dict[str, Entry[A]] = {}
        self._changing = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(self._entries))

    def __iter__(self) -> Iterator[Entry[A]]:
        """The entries, sorted by name."""
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def entry(self, name: str) -> Entry[A]:
        """The entry under a name.

        Raises:
            UnknownArtifactError: Nothing is; the message says which names there are.

        """
        if name not in self._entries:
            known = ", ".join(self.names) or "none"
            raise UnknownArtifactError(
                f"unknown {self.noun} {name[:80]!r}; this server has: {known}", field="name"
            )
        return self._entries[name]

    def get(self, name: str) -> A:
        """The artifact of a name.

        Raises:
            UnknownArtifactError: There is none; the message says which names there are.

        """
        return self.entry(name).artifact

    def holding(self, used: Iterable[A]) -> contextlib.AbstractContextManager[None]:
        """Keep artifacts on the engine for the body of a `with`, whatever becomes of their names.

        Entering raises:
            ArtifactError: One has left the engine since it was looked up.

        """
        return self._loaded.holding(used)

    async def settle(self) -> None:
        """Wait until all unused artifacts have left the engine."""
        await self._loaded.settle()

    async def load_directories(self, *, followed: bool = False) -> None:
        """Take in every file of the directories, at the start.

        Args:
            followed: Leave out those of the server's own directory, which `follow` takes in.

        Raises:
            ArtifactError: A file that this server cannot use, which the message names.

        """
        found: dict[str, Entry[A]] = {}
        async with self._changing:
            for files in (self._shipped, *(() if followed else (self._files,))):
                changes = await asyncio.to_thread(files.look)
                if files.faults:
                    raise ArtifactError(files.faults[0], field=None)
                found |= {entry.name: entry for entry in changes.entries}
            if len(found) > self.max_entries:
                raise ArtifactError(
                    f"there are {len(found)} {self.noun}s, this server keeps {self.max_entries} at "
                    "most",
                    field=None,
                )
            for entry in found.values():
                await self._exchange(entry)

    async def follow(self) -> tuple[str, ...]:
        """Take over what has changed in the directory since this, or the start.

        What is loaded under a name stays until its file is gone or a good one is there.

        Returns:
            A line for each file that cannot be used.

        """
        async with self._changing:
            return await self._files.follow(self._follow)

    async def put(self, name: str, data: bytes) -> Entry[A]:
        """Put an artifact under a name, in place of the one that has it.

        Whatever is raised, all is as it was before. Of a cancellation either that is true, or the
        artifact is there whole.

        Args:
            name: The name.
            data: A file of the kind. The directory gets it as the store writes it.

        Raises:
            ArtifactError: The name or the file is refused, or there is no room for another one.
            DirectoryError: The directory does not take it.
            Exception: An error of the host.

        """
        check_name(name, self.noun)
        entry = await asyncio.to_thread(self._files.read, name, data)
        async with self._changing:
            return await completed(self._put(entry))

    async def delete(self, name: str) -> None:
        """Delete a name and its file.

        Raises:
            UnknownArtifactError: There is no such name.
            DirectoryError: The file cannot be deleted; the name is still there.

        """
        async with self._changing:
            await completed(self._delete(name))

    async def _put(self, entry: Entry[A]) -> Entry[A]:
        there = self._entries.get(entry.name)
        if self._has(entry) and self._files.hold(entry.name):
            return dataclasses.replace(entry, new=False)
        self._check_room(entry)
        async with self._files.saving(entry) as save:
            await self._exchange(entry, save)
        await self.settle()
        return dataclasses.replace(entry, new=there is None)

    async def _delete(self, name: str) -> None:
        self.entry(name)
        self._files.remove(name)
        self._forget(name)
        await self.settle()

    async def _follow(self, changes: Changes[A]) -> None:
        for name in changes.gone:
            if name in self._entries:
                self._forget(name)
                logger.info("%s %r is gone with its file", self.noun, name)
        for entry in changes.entries:
            if self._has(entry):
                continue
            try:
                self._check_room(entry)
                await self._exchange(entry)
            except Exception as error:
                # The engine may take it at the next look; room for a name is free once one is gone.
                self._files.refuse(entry.name, error, again=self._room_for(entry))
            else:
                logger.info("%s %r is now that of its file", self.noun, entry.name)
        await self.settle()

    def _has(self, entry: Entry[A]) -> bool:
        there = self._entries.get(entry.name)
        return there is not None and there.artifact == entry.artifact

    def _room_for(self, entry: Entry[A]) -> bool:
        return entry.name in self._entries or len(self._entries) < self.max_entries

    def _check_room(self, entry: Entry[A]) -> None:
        if not self._room_for(entry):
            raise ArtifactError(
                f"this server keeps {self.max_entries} {self.noun}s at most: delete one first",
                field="name",
            )

    async def _exchange(self, entry: Entry[A], save: Callable[[], None] = lambda: None) -> None:
        """Point a name to an artifact, once the engine has it and it is saved."""
        await self._loaded.take(entry.artifact)
        try:
            save()
        except BaseException:
            self._loaded.drop(entry.artifact.digest)
            raise
        there = self._entries.get(entry.name)
        self._entries[entry.name] = entry
        if there is not None:
            self._loaded.drop(there.artifact.digest)

    def _forget(self, name: str) -> None:
        self._loaded.drop(self._entries.pop(name).artifact.digest)
        self._files.retry()
