"""Built-in models: short names for weights that a package registry carries.

`resolve` tells a built-in name from anything else that names a model, `prepare` makes its directory
ready, `listing` says what there is.
"""

from dataclasses import dataclass
from pathlib import Path

from steersman.models.build import build
from steersman.models.cache import ModelCache, default_root
from steersman.models.catalog import BUILT_IN, BuiltIn
from steersman.models.error import ModelError
from steersman.models.progress import ConsoleProgress, Progress

__all__ = [
    "BUILT_IN",
    "BuiltIn",
    "ConsoleProgress",
    "ModelError",
    "ModelStatus",
    "Progress",
    "listing",
    "prepare",
    "resolve",
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


def resolve(name: str) -> Path | None:
    """Where a built-in model's directory is or will be; None for a name that is not built in.

    Nothing is fetched: `prepare` does that.
    """
    model = BUILT_IN.get(name)
    return ModelCache(default_root()).path(model) if model else None


def prepare(name: str, *, progress: Progress) -> Path:
    """The directory of a built-in model, fetched and converted if this is the first time.

    Raises:
        KeyError: no built-in model has this name.
        ModelError: it cannot be made ready.
    """
    return ModelCache(default_root()).prepare(BUILT_IN[name], build, progress)


def listing() -> list[ModelStatus]:
    """Every built-in model, in the order of the catalog."""
    cache = ModelCache(default_root())
    sizes = [(model, cache.size(model)) for model in BUILT_IN.values()]
    return [
        ModelStatus(model.name, model.description, size is not None, cache.path(model), size)
        for model, size in sizes
    ]
