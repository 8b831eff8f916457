"""Artifacts of one kind by name; also on the engine, and as files in a directory."""

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from steersman.artifacts.artifact import A, ArtifactError, Host, Kind, UnknownArtifactError
from steersman.artifacts.directory import Directory
from steersman.artifacts.loaded import Loaded
from steersman.capabilities import Model
from steersman.completion import completed

MAX_ENTRIES = 256
"""Names that a store may have, unless an option says otherwise."""
MAX_BYTES = 64 * 2**20
"""Size of an artifact's file, unless an option says otherwise."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def check_name(name: str, noun: str) -> None:
    """Refuse a name that no artifact, and no file, can have.

    Raises:
        ArtifactError: It is none.

    """
    if not _NAME.match(name) or ".." in name:
        raise ArtifactError(
            f"{name[:80]!r} cannot be the name of {_with_article(noun)}: use up to 64 letters, "
            "digits, '.', '_' and '-', the first a letter or a digit, and no '..'",
            field="name",
        )


@dataclass(frozen=True, slots=True)
class Entry(Generic[A]):
    """An artifact under a name.

    Attributes:
        name: Its name.
        artifact: The artifact.
        size: Bytes of its file as the store writes it.
        new: Whether nothing had the name when this was put there.

    """

    name: str
    artifact: A
    size: int
    new: bool = True


class Store(Generic[A]):
    """Artifacts by name. Two names may have the same content, which the engine then has once.

    An artifact in use stays on the engine until its request is over, even if its name is deleted
    or replaced meanwhile. All of it is for one event loop.

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
        self._kind = kind
        self._model = model
        self._loaded = Loaded(kind.noun, host)
        self._directory = Directory(directory, kind.suffixes) if directory else None
        self._shipped = Directory(shipped, kind.suffixes) if shipped else None
        self._entries: dict[str, Entry[A]] = {}
        self._changing = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(self._entries))

    def __iter__(self) -> Iterator[Entry[A]]:
        """The entries, sorted by name."""
        return iter([self._entries[name] for name in self.names])

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

    async def load_directories(self) -> None:
        """Take in every file of the directories, at the start.

        Raises:
            ArtifactError: A file that this server cannot use, which the message names.

        """
        async with self._changing:
            for entry in await asyncio.to_thread(self._read_directories):
                await self._loaded.take(entry.artifact)
                self._entries[entry.name] = entry

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
        entry = await asyncio.to_thread(self._read, name, data)
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
        if there is not None and there.artifact == entry.artifact:
            return dataclasses.replace(there, new=False)
        if there is None and len(self._entries) >= self.max_entries:
            raise ArtifactError(
                f"this server keeps {self.max_entries} {self.noun}s at most: delete one first",
                field="name",
            )
        await self._exchange(entry)
        if there is not None:
            self._loaded.drop(there.artifact.digest)
        await self.settle()
        return dataclasses.replace(entry, new=there is None)

    async def _delete(self, name: str) -> None:
        entry = self.entry(name)
        if self._directory is not None:
            self._directory.remove(name)
        del self._entries[name]
        self._loaded.drop(entry.artifact.digest)
        await self.settle()

    async def _exchange(self, entry: Entry[A]) -> None:
        """Point a name to an artifact, once the directory has room for it and the engine has it."""
        async with self._saving(entry) as save:
            await self._loaded.take(entry.artifact)
            try:
                if save is not None:
                    save()
            except BaseException:
                self._loaded.drop(entry.artifact.digest)
                raise
        self._entries[entry.name] = entry

    def _saving(
        self, entry: Entry[A]
    ) -> contextlib.AbstractAsyncContextManager[Callable[[], None] | None]:
        if self._directory is None:
            return contextlib.nullcontext()
        return self._directory.saving(entry.name, self._kind.write(entry.artifact))

    def _read(self, name: str, data: bytes) -> Entry[A]:
        if len(data) > self.max_bytes:
            raise ArtifactError(
                f"the file is over this server's limit of {self.max_bytes} bytes", field="body"
            )
        artifact = self._kind.parse(data)
        self._kind.check(artifact, self._model)
        return Entry(name, artifact, len(self._kind.write(artifact)))

    def _read_directories(self) -> list[Entry[A]]:
        files: dict[str, Path] = {}
        for directory in (self._shipped, self._directory):
            if directory is not None:
                files |= directory.files()
        if len(files) > self.max_entries:
            raise ArtifactError(
                f"there are {len(files)} {self.noun}s, this server keeps {self.max_entries} at "
                "most",
                field=None,
            )
        return [self._read_file(name, path) for name, path in sorted(files.items())]

    def _read_file(self, name: str, path: Path) -> Entry[A]:
        try:
            check_name(name, self.noun)
            with path.open("rb") as stream:
                return self._read(name, stream.read(self.max_bytes + 1))
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error.message}", field=error.field) from error
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror}", field=None) from error


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
