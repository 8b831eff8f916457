"""The edits of a server: those on offer to requests, and those that are live for all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steersman.artifacts.artifact import ArtifactError, Kind, UnknownArtifactError
from steersman.artifacts.store import Entry, Store, check_name
from steersman.capabilities import Model
from steersman.completion import completed
from steersman.edits import file
from steersman.edits.edit import Edit, EditError, check

EDITS = Kind("edit", (".safetensors",), file.read, file.write, check)
"""Edits, as the store of a server keeps those that requests can choose."""

Apply = Callable[[Sequence[Edit]], Awaitable[None]]
"""Gives the engine's weights exactly these edits; raises `EditError`, and changes nothing then."""


class LiveEdits:
    """Edits that the model's weights have, by name, in the order in which they were put there.

    Args:
        model: The served model, which every edit must fit.
        apply: The engine.

    """

    def __init__(self, model: Model, apply: Apply) -> None:
        self._model = model
        self._apply = apply
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
            steersman.artifacts.artifact.ArtifactError: The name or the edit is refused; all is as
                it was before.

        """
        check_name(name, EDITS.noun)
        edit = await asyncio.to_thread(file.read, data)
        check(edit, self._model)
        async with self._changing:
            new = name not in self._entries
            entry = Entry(name, edit, len(file.write(edit)), new)
            await self._change({**self._entries, name: entry})
            return entry

    async def delete(self, name: str) -> None:
        """Take an edit back: the weights are as they were without it, bit by bit.

        Raises:
            UnknownArtifactError: No weight edit has this name.

        """
        async with self._changing:
            if name not in self._entries:
                raise UnknownArtifactError(f"unknown edit {name[:80]!r}", field="name")
            await self._change(
                {other: entry for other, entry in self._entries.items() if other != name}
            )

    async def load(self, files: Sequence[Path]) -> None:
        """Apply files, at the start; an edit's name is its file's stem.

        Raises:
            EditError: A file that cannot be applied, which the message names.

        """
        for path in files:
            if path.stem in self._entries:
                raise EditError(f"{path}: another edit is named {path.stem} too", field="name")
            try:
                await self.put(path.stem, await asyncio.to_thread(path.read_bytes))
            except OSError as error:
                raise EditError(f"{path}: {error.strerror}", field=None) from error
            except ArtifactError as error:
                raise EditError(f"{path}: {error.message}", field=error.field) from error

    async def _change(self, entries: dict[str, Entry[Edit]]) -> None:
        # Cancelled in the middle, the weights would have an edit that is not known to be live.
        await completed(self._changed(entries))

    async def _changed(self, entries: dict[str, Entry[Edit]]) -> None:
        # With other words about the same edits, no request need be computed anew.
        if _digests(entries) != _digests(self._entries):
            await self._apply([entry.artifact for entry in entries.values()])
        self._entries = entries


@dataclass(frozen=True, slots=True)
class ChoosableEdits:
    """The edits that a request can choose: those on offer that it does not have anyway.

    Attributes:
        offered: The edits on offer.
        live: The edits that every request has.

    """

    offered: Store[Edit]
    live: LiveEdits

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
