"""Built-in models: short names for weights that a package registry or this package carries.

`BUILT_IN` has their names, `prepare` makes a model's directory ready, `listing` says what there is.
"""

from dataclasses import dataclass
from pathlib import Path

from steersman.models.build import build
from steersman.models.cache import ModelCache, default_root
from steersman.models.catalog import BUILT_IN, DEFAULT, Fetched, Packaged
from steersman.models.error import ModelError
from steersman.models.progress import ConsoleProgress, Progress

__all__ = [
    "BUILT_IN",
    "DEFAULT",
    "ConsoleProgress",
    "Fetched",
    "ModelError",
    "ModelStatus",
    "Packaged",
    "Progress",
    "listing",
    "prepare",
]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A built-in model and whether its directory is ready."""

    name: str
    description: str
    cached: bool
    path: Path
    size_bytes: int | None
    """Bytes of the directory's files; None while it is not cached."""


def prepare(name: str, *, progress: Progress) -> Path:
    """The directory of a built-in model, fetched and converted if this is the first time.

    Raises:
        KeyError: no built-in model has this name.
        ModelError: it cannot be made ready.
    """
    model = BUILT_IN[name]
    if isinstance(model, Packaged):
        return model.path
    return ModelCache(default_root()).prepare(model, build, progress)


def listing() -> list[ModelStatus]:
    """Every built-in model, in the order of the catalog."""
    return [_status(model) for model in BUILT_IN.values()]


def _status(model: Fetched | Packaged) -> ModelStatus:
    if isinstance(model, Packaged):
        return ModelStatus(model.name, model.description, True, model.path, model.size_bytes)
    cache = ModelCache(default_root())
    size = cache.size(model)
    return ModelStatus(model.name, model.description, size is not None, cache.path(model), size)
