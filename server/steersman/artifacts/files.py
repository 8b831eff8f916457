"""Files of artifacts: read and checked, and looked at again for what has changed."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from steersman.artifacts.artifact import A, ArtifactError, HostError, Kind
from steersman.artifacts.directory import Directory, DirectoryError, State
from steersman.capabilities import Model
from steersman.completion import completed
from steersman.following import Looks

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


@dataclass(frozen=True, slots=True)
class Changes(Generic[A]):
    """Changes of a directory.

    Attributes:
        entries: Artifacts of files that are new, or have another content.
        gone: Names whose files are gone.

    """

    entries: tuple[Entry[A], ...]
    gone: tuple[str, ...]


class Files(Generic[A]):
    """Files of one kind of artifact, in a directory that others may change too.

    Args:
        kind: The kind of artifact.
        model: The served model, which every artifact must fit.
        directory: The directory; None keeps no files.
        max_bytes: Size of one file.

    """

    def __init__(
        self, kind: Kind[A], model: Model, directory: Path | None, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self._kind = kind
        self._model = model
        self._directory = Directory(directory, kind.suffixes) if directory else None
        self._max_bytes = max_bytes
        self._looks: Looks[State] = Looks()
        self._faults: dict[str, str] = {}

    @property
    def faults(self) -> tuple[str, ...]:
        """A line for each file of the directory that cannot be used."""
        return tuple(self._faults.values())

    def read(self, name: str, data: bytes) -> Entry[A]:
        """Read the content of a file.

        Raises:
            ArtifactError: It is refused.

        """
        if len(data) > self._max_bytes:
            raise ArtifactError(
                f"the file is over this server's limit of {self._max_bytes} bytes", field="body"
            )
        artifact = self._kind.parse(data)
        self._kind.check(artifact, self._model)
        return Entry(name, artifact, len(self._kind.write(artifact)))

    def read_file(self, path: Path) -> Entry[A]:
        """Read a file; its stem is the name.

        Raises:
            ArtifactError: It cannot be read, or is refused; the message names it.

        """
        try:
            check_name(path.stem, self._kind.noun)
            with path.open("rb") as stream:
                return self.read(path.stem, stream.read(self._max_bytes + 1))
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error.message}", field=error.field) from error
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror}", field=None) from error

    def look(self) -> Changes[A]:
        """Read what has changed in the directory since it was looked at last.

        Raises:
            DirectoryError: It cannot be listed.

        """
        if self._directory is None:
            return Changes((), ())
        entries: list[Entry[A]] = []
        gone: list[str] = []
        found = self._directory.states()
        for name in self._looks.changed(found):
            fault: str | None = None
            state = found.get(name)
            if state is None:
                gone.append(name)
            else:
                try:
                    entry = self._read_state(state)
                except ArtifactError as error:
                    fault = error.message
                if self._directory.state(name) != state:
                    continue  # it is being written
                if fault is None:
                    entries.append(entry)
            self._take(name, state, fault)
        return Changes(tuple(entries), tuple(gone))

    async def follow(
        self, take: Callable[[Changes[A]], Coroutine[Any, Any, None]]
    ) -> tuple[str, ...]:
        """Have what has changed since the last look taken over, to its end once that has begun.

        Args:
            take: Takes changes over; what it cannot it refuses, by `refuse`.

        Returns:
            A line for each file that cannot be used, and for a directory that cannot be listed.

        """
        try:
            changes = await asyncio.to_thread(self.look)
        except DirectoryError as error:
            return (*self.faults, error.message)
        await completed(take(changes))
        return self.faults

    def refuse(self, name: str, reason: Exception, *, again: bool) -> None:
        """Note that a change which `look` found cannot be followed.

        Args:
            name: Name of the artifact.
            reason: The error.
            again: Whether the next look should find the change anew.

        """
        known = (ArtifactError, HostError)
        message = reason.message if isinstance(reason, known) else repr(reason)
        self._faults[name] = f"{self._kind.noun} {name!r}: {message}"
        if again:
            self._looks.again(name)

    def retry(self) -> None:
        """Have the next look find anew what was refused."""
        for name in self._faults:
            self._looks.again(name)

    def hold(self, name: str) -> bool:
        """Tell whether the file of a name is as it was taken in or written; True without files.

        Raises:
            DirectoryError: Nobody can tell.

        """
        if self._directory is None:
            return True
        state = self._directory.state(name)
        return state == self._looks.taken(name) and name not in self._faults

    @contextlib.asynccontextmanager
    async def saving(self, entry: Entry[A]) -> AsyncGenerator[Callable[[], None]]:
        """Write an artifact's file beside its final path, for the yielded function to move there.

        Raises:
            DirectoryError: The directory does not take it.

        """
        if self._directory is None:
            yield lambda: None
            return
        content = self._kind.write(entry.artifact)
        async with self._directory.saving(entry.name, content) as commit:
            yield lambda: self._take(entry.name, commit())

    def remove(self, name: str) -> None:
        """Delete the file of a name.

        Raises:
            DirectoryError: It cannot be deleted.

        """
        if self._directory is not None:
            self._directory.remove(name)
            self._take(name, None)

    def _read_state(self, state: State) -> Entry[A]:
        (path, _), *others = reversed(state)
        if others:
            raise ArtifactError(f"{path}: {others[0][0].name} has the same name", field="name")
        return self.read_file(path)

    def _take(self, name: str, state: State | None, fault: str | None = None) -> None:
        self._looks.take(name, state)
        self._faults.pop(name, None)
        if fault is not None:
            self._faults[name] = fault


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
