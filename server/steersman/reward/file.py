"""Rewards of an operator: a YAML file of names with a type and options."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steersman import named
from steersman.reward.registry import READY, kinds
from steersman.reward.reward import Reward


class RewardFileError(Exception):
    """A reward file that cannot be used; the message is one line and names the reward."""


def load(path: Path | None) -> dict[str, Reward[Any]]:
    """Make the rewards of a server: those that need no file, and a file's over them.

    Args:
        path: A mapping from name to `type` and the options of the type; None for no file.

    Raises:
        RewardFileError: The file cannot be read, is not such a mapping, or a reward cannot be
            made.

    """
    rewards = {name: _made({"type": name}) for name in READY}
    if path is None:
        return rewards
    for name, options in named.read(path, "reward", RewardFileError).items():
        try:
            rewards[name] = _made(options)
        except ValidationError as error:
            raise RewardFileError(f"{path}: {named.first_fault(name, error)}") from error
        except ValueError as error:
            raise RewardFileError(f"{path}: {name}: {error}") from error
    return rewards


def _made(options: object) -> Reward[Any]:
    if not isinstance(options, dict) or "type" not in options:
        raise ValueError("expected a mapping with a type")
    kind = kinds().get(options["type"]) if isinstance(options["type"], str) else None
    if kind is None:
        known = ", ".join(sorted(kinds()))
        raise ValueError(f"unknown type {options['type']!r}; known: {known}")
    return kind(kind.spec.model_validate(options))
