"""The edits of a server: those on offer to requests, and those that are live for all of them."""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steersman.artifacts.artifact import ArtifactError, Kind, UnknownArtifactError
from steersman.artifacts.files import MAX_BYTES, Changes, Entry, Files, check_name
from steersman.artifacts.store import Store
from steersman.capabilities import Model
from steersman.completion import completed
from steersman.edits import file
from steersman.edits.edit import Edit, EditError, check

logger = logging.getLogger(__name__)

EDITS = Kind("edit", (".safetensors",), file.read, file.write, check)
"""Edits, as the store of a server keeps those that requests can choose."""

Apply = Callable[[Sequence[Edit]], Awaitable[None]]
"""Gives the engine's weights exactly these edits; raises `EditError`, and changes nothing then."""


class LiveEdits:
    """Edits that the model's weights have, by name, in the order in which they were put there.

    Other servers may have the same directory: `follow` takes over what they do there.

    Args:
        model: The served model, which every edit must fit.
        apply: The engine.
        directory: Where edits are kept over a restart; None keeps them in memory alone.
        max_bytes: Size of one file.

    """

    def __init__(
        self,
        model: Model,
        apply: Apply,
        directory: Path | None = None,
        *,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._apply = apply
        self._files = Files(EDITS, model, directory, max_bytes=max_bytes)
        self._entries: dict[str, Entry[Edit]] = {}
        self._changing = asyncio.Lock()

    @property
    def entries(self) -> tuple[Entry[Edit], ...]:
        """Weight edits that are live."""
        return tuple(self._entries.values())

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    async def put(self, name: str, data: bytes) -> Entry[Edit]:
        """Apply an edit to the weights, in place of the one that has its name.

        Raises:
            steersman.artifacts.artifact.ArtifactError: The name or the edit is refused, or the
                directory does not take it; all is as it was before.

        """
        check_name(name, EDITS.noun)
        entry = await asyncio.to_thread(self._files.read, name, data)
        async with self._changing:
            new = name not in self._entries
            # Cancelled in the middle, the weights would have an edit that is not known to be live.
            await completed(self._put(entry))
            return dataclasses.replace(entry, new=new)

    async def delete(self, name: str) -> None:
        """Take an edit back: the weights are as they were without it, bit by bit.

        Raises:
            UnknownArtifactError: No weight edit has this name.
            DirectoryError: Its file cannot be deleted; the edit is still live.

        """
        async with self._changing:
            if name not in self._entries:
                raise UnknownArtifactError(f"unknown edit {name[:80]!r}", field="name")
            await completed(self._change(self._without(name), lambda: self._files.remove(name)))

    async def load(self, files: Sequence[Path]) -> None:
        """Apply files from outside the directory, at the start; a file's stem is its edit's name.

        Raises:
            EditError: A file that cannot be applied, which the message names.

        """
        for path in files:
            try:
                entry = await asyncio.to_thread(self._files.read_file, path)
            except ArtifactError as error:
                raise EditError(error.message, field=error.field) from error
            await self._add(entry, str(path))

    async def load_directory(self) -> None:
        """Apply every file of the directory, at the start of a server that does not follow it.

        Raises:
            ArtifactError: A file that cannot be applied, which the message names.

        """
        changes = await asyncio.to_thread(self._files.look)
        if self._files.faults:
            raise EditError(self._files.faults[0], field=None)
        for entry in changes.entries:
            await self._add(entry, f"edit {entry.name!r}")

    async def _add(self, entry: Entry[Edit], source: str) -> None:
        if entry.name in self._entries:
            raise EditError(f"{source}: another edit is named {entry.name} too", field="name")
        try:
            await self._change({**self._entries, entry.name: entry})
        except ArtifactError as error:
            raise EditError(f"{source}: {error.message}", field=error.field) from error

    async def follow(self) -> tuple[str, ...]:
        """Take over what has changed in the directory since this, or the start.

        An edit that is live stays so until its file is gone or a good one is there. Each change
        interrupts the engine, so one that it refuses is tried again after another change alone.

        Returns:
            A line for each file that cannot be used.

        """
        async with self._changing:
            return await self._files.follow(self._follow)

    async def _follow(self, changes: Changes[Edit]) -> None:
        for name in changes.gone:
            if name in self._entries:
                await self._try(name, self._without(name))
        for entry in changes.entries:
            there = self._entries.get(entry.name)
            if there is None or there.artifact != entry.artifact:
                await self._try(entry.name, {**self._entries, entry.name: entry})

    async def _try(self, name: str, entries: dict[str, Entry[Edit]]) -> None:
        try:
            await self._change(entries)
        except Exception as error:
            self._files.refuse(name, error, again=False)
        else:
            logger.info("edit %r is %s its file", name, "live as" if name in self else "gone with")

    async def _put(self, entry: Entry[Edit]) -> None:
        async with self._files.saving(entry) as save:
            await self._change({**self._entries, entry.name: entry}, save)

    def _without(self, name: str) -> dict[str, Entry[Edit]]:
        return {other: entry for other, entry in self._entries.items() if other != name}

    async def _change(
        self, entries: dict[str, Entry[Edit]], save: Callable[[], None] = lambda: None
    ) -> None:
        before = self._entries
        # With other words about the same edits, no request need be computed anew.
        anew = _digests(entries) != _digests(before)
        if anew:
            await self._apply([entry.artifact for entry in entries.values()])
        try:
            save()
        except BaseException:
            if anew:
                await self._apply([entry.artifact for entry in before.values()])
            raise
        self._entries = entries
        self._files.retry()


@dataclass(frozen=True, slots=True)
class ChoosableEdits:
    """The edits that a request can choose: those on offer that it does not have anyway.

    Attributes:
        offered: The edits on offer.
        live: The edits that every request has.

    """

    offered: Store[Edit]
    live: LiveEdits

    @property
    def live_anyway(self) -> tuple[str, ...]:
        """A line for each name that is both live and on offer, so that no request can choose it."""
        return tuple(
            f"edit {name!r} is both live and on offer to requests"
            for name in self.offered.names
            if name in self.live
        )

    async def follow(self) -> tuple[str, ...]:
        """Take over what has changed in the directory of those on offer.

        Returns:
            A line for each file that cannot be used, and for each name that is live anyway.

        """
        return (*await self.offered.follow(), *self.live_anyway)

    def get(self, name: str) -> Edit:
        """The edit of a name.

        Raises:
            UnknownArtifactError: There is none; the message says which names there are.
            EditError: It is live, under this name or another one.

        """
        if name in self.live:
            raise EditError(f"edit {name!r} is live: every request has it", field="name")
        edit = self.offered.get(name)
        for entry in self.live.entries:
            if entry.artifact.digest == edit.digest:
                raise EditError(
                    f"edit {name!r} is live as {entry.name!r}: every request has it", field="name"
                )
        return edit


def _digests(entries: Mapping[str, Entry[Edit]]) -> list[str]:
    return [entry.artifact.digest for entry in entries.values()]
