"""The directory in which a server keeps artifacts: a file each, there whole or not at all."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from steersman.artifacts.artifact import ArtifactError
from steersman.following import Stamp

State = tuple[tuple[Path, Stamp], ...]
"""The files of one name, sorted, each with its stamp. More than one is a fault."""


class DirectoryError(ArtifactError):
    """The directory cannot be used: it is not there, not writable, or full."""

    def __init__(self, directory: Path, error: OSError) -> None:
        super().__init__(f"cannot use the directory {directory}: {error.strerror}", field=None)


@dataclass(frozen=True, slots=True)
class Directory:
    """Files of one kind of artifact; a file's stem is its name.

    Attributes:
        path: The directory.
        suffixes: Of the files; the first is of those that are written.

    """

    path: Path
    suffixes: tuple[str, ...]

    def states(self) -> dict[str, State]:
        """The files by name. Those with other suffixes are left alone.

        Raises:
            DirectoryError: It cannot be listed.

        """
        found: dict[str, State] = {}
        try:
            for path in sorted(self.path.iterdir()):
                if path.suffix in self.suffixes and (stamp := Stamp.of(path)) is not None:
                    found[path.stem] = (*found.get(path.stem, ()), (path, stamp))
        except OSError as error:
            raise DirectoryError(self.path, error) from error
        return found

    def state(self, name: str) -> State | None:
        """The files of a name; None if there are none.

        Raises:
            DirectoryError: Nobody can tell.

        """
        paths = sorted(self.path / f"{name}{suffix}" for suffix in self.suffixes)
        try:
            found = [(path, stamp) for path in paths if (stamp := Stamp.of(path)) is not None]
        except OSError as error:
            raise DirectoryError(self.path, error) from error
        return tuple(found) or None

    @contextlib.asynccontextmanager
    async def saving(self, name: str, data: bytes) -> AsyncGenerator[Callable[[], State]]:
        """Write a file beside its final path; calling the yielded function moves it there.

        Then it replaces any file of that name. If it is not called, nothing has changed.

        Raises:
            DirectoryError: There is no room, or no right to; of the call, that it cannot be moved.

        """
        partial = await asyncio.to_thread(self._prepare, name, data)
        try:
            yield lambda: self._commit(name, partial)
        finally:
            partial.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Delete the file of a name.

        Raises:
            DirectoryError: It cannot be deleted.

        """
        try:
            for suffix in self.suffixes:
                (self.path / f"{name}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            raise DirectoryError(self.path, error) from error

    def _prepare(self, name: str, data: bytes) -> Path:
        try:
            with tempfile.NamedTemporaryFile(
                dir=self.path, prefix=f".{name}-", suffix=".partial", delete=False
            ) as stream:
                partial = Path(stream.name)
                try:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                    partial.chmod(0o644)
                except BaseException:
                    partial.unlink()
                    raise
        except OSError as error:
            raise DirectoryError(self.path, error) from error
        return partial

    def _commit(self, name: str, partial: Path) -> State:
        try:
            written, *others = (self.path / f"{name}{suffix}" for suffix in self.suffixes)
            # Of this file, and not of the path: another server may write there right after.
            stamp = Stamp.of(partial)
            partial.replace(written)
            for other in others:
                other.unlink(missing_ok=True)
        except OSError as error:
            raise DirectoryError(self.path, error) from error
        assert stamp is not None  # or there had been nothing to move
        return ((written, stamp),)
