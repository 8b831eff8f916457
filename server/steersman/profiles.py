"""Profiles: named control presets that the server keeps, read from a YAML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from steersman import named, schema
from steersman.errors import ControlError

PROFILES = "profiles.yaml"
"""Name of the file of a model directory's own profiles."""


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
