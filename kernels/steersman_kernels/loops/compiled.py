"""`njit`, which keeps what numba has compiled: to compile all loops anew takes some ten seconds.

It is kept in the directory that `kept` names. Where nothing can be written, each process compiles
for itself.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba  # type: ignore[import-untyped]

from steersman_kernels.loops import kept


def _directory() -> Path | None:
    """The directory, made if it is not there; None if it cannot be written to."""
    directory = kept.directory()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return directory if os.access(directory, os.W_OK) else None


_KEPT = _directory()
if _KEPT is not None:
    numba.config.CACHE_DIR = str(_KEPT)


def njit(**options: Any) -> Callable[[Any], Any]:
    """`numba.njit`, without the interpreter's lock: the loops hold no Python objects."""
    decorate: Callable[[Any], Any] = numba.njit(nogil=True, cache=_KEPT is not None, **options)
    return decorate
