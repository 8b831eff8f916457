"""`njit`, which keeps what numba has compiled: to compile all loops anew takes some ten seconds.

It is kept in the cache directory (`NUMBA_CACHE_DIR`, else `STEERSMAN_CACHE`, else the user's), by a
digest of this package's source: numba itself would not see that a function of another module, or a
constant, has changed. Where nothing can be written, each process compiles for itself.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba  # type: ignore[import-untyped]
from platformdirs import user_cache_path

_PACKAGE = Path(__file__).parents[1]


def _directory() -> Path | None:
    """The directory for this version of the package; None if it cannot be written to."""
    given = numba.config.CACHE_DIR or os.environ.get("STEERSMAN_CACHE")
    root = Path(given) if given else user_cache_path("steersman")
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py")):
        digest.update(file.read_bytes())
    directory = root / "loops" / digest.hexdigest()[:16]
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
