"""Profiles: named control presets that the server keeps, read from a YAML file."""

import asyncio
import logging
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from steersman import named, schema
from steersman.errors import ControlError
from steersman.following import Looks, Stamp

logger = logging.getLogger(__name__)

PROFILES = "profiles.yaml"
"""Name of the file of a model directory's own profiles."""
_FILES = "profiles"
"""All files of profiles together: they change as one."""


class Profile(BaseModel):
    """A preset: part of a `control` object that requests may build on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = ""
    control: dict[str, Any]


class ProfileError(Exception):
    """A profile file that cannot be used; the message is one line and names the profile."""


def load(path: Path) -> dict[str, Profile]:
    """Read a profile file: a mapping from name to `description` and `control`.

    Raises:
        ProfileError: The file cannot be read, is not such a mapping, or a name is not usable in
            a model suffix.

    """
    profiles = named.read(path, "profile", ProfileError)
    return {name: _profile(path, name, value) for name, value in profiles.items()}


def _profile(path: Path, name: str, value: Any) -> Profile:
    try:
        profile = Profile.model_validate(value)
    except ValidationError as error:
        raise ProfileError(f"{path}: {named.first_fault(name, error)}") from error
    if "profile" in profile.control:
        raise ProfileError(f"{path}: {name}.control.profile: a profile cannot name another one")
    try:
        schema.read(profile.control)
    except ControlError as error:
        raise ProfileError(f"{path}: {name}.{error.message}") from error
    return profile


class Profiles(Mapping[str, Profile]):
    """The profiles of a server, by name.

    Args:
        paths: Their files; of two profiles with one name, that of the later file counts.

    """

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        self._paths = tuple(paths)
        self._looks: Looks[tuple[Stamp | None, ...]] = Looks()
        self._faults: tuple[str, ...] = ()
        self._current: Mapping[str, Profile] = {}

    def __getitem__(self, name: str) -> Profile:
        return self._current[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current)

    def __len__(self) -> int:
        return len(self._current)

    def items(self) -> ItemsView[str, Profile]:
        """Names and profiles of one moment, for whoever reads them in a thread."""
        return self._current.items()

    def load(self) -> None:
        """Read the files, at the start of a server that does not follow them.

        Raises:
            ProfileError: A file cannot be used.

        """
        self._current = self._read()

    async def follow(self, check: Callable[[Mapping[str, Profile]], None]) -> tuple[str, ...]:
        """Take over what has changed in the files since this. A refused profile stays as it was.

        Args:
            check: Raises a `ProfileError` for profiles that this server could not serve.

        Returns:
            A line for each file, or profile, that cannot be used.

        """
        found = await asyncio.to_thread(self._found)
        if not self._looks.changed(found):
            return self._faults
        faults: list[str] = []
        profiles = self._current
        try:
            profiles = self._servable(await asyncio.to_thread(self._read), check, faults)
        except ProfileError as error:
            faults.append(str(error))
        if await asyncio.to_thread(self._found) != found:
            return self._faults  # they are being written
        self._looks.take(_FILES, found[_FILES])
        if faults:
            # They may be right as soon as there is a vector that they name.
            self._looks.again(_FILES)
        self._faults = tuple(faults)
        if profiles != self._current:
            self._current = profiles
            logger.info("The profiles are now: %s", ", ".join(profiles) or "none")
        return self._faults

    def _servable(
        self,
        profiles: Mapping[str, Profile],
        check: Callable[[Mapping[str, Profile]], None],
        faults: list[str],
    ) -> dict[str, Profile]:
        """The profiles, each as it was if the new one is refused; the refusals go to the faults."""
        servable = {}
        for name, profile in profiles.items():
            try:
                check({name: profile})
            except ProfileError as error:
                faults.append(str(error))
                if name in self._current:
                    servable[name] = self._current[name]
            else:
                servable[name] = profile
        return servable

    def _found(self) -> dict[str, tuple[Stamp | None, ...]]:
        return {_FILES: tuple(Stamp.of(path) for path in self._paths)}

    def _read(self) -> dict[str, Profile]:
        return {name: one for path in self._paths for name, one in load(path).items()}


def merge(base: Mapping[str, Any], explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a request's own `control` over a profile's.

    Explicit fields win, objects are merged field by field, lists are replaced, and an explicit
    null switches a part off. An object whose `method` differs replaces the profile's whole part.
    """
    merged = dict(base)
    for key, value in explicit.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and _same_method(below, value):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def _same_method(base: Mapping[str, Any], explicit: Mapping[str, Any]) -> bool:
    return "method" not in explicit or explicit["method"] == base.get("method")
