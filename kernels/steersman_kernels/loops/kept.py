"""The directory where compiled loops are kept from one process to the next."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path

_PACKAGE = Path(__file__).parents[1]
DONE = "compiled-ahead"
"""File in the directory that says that `ahead` has been through."""


def directory(environment: Mapping[str, str] = os.environ) -> Path:
    """The directory for this version of the package; it need not be there.

    By a digest of this package's source: numba itself would not see that a function of another
    module, or a constant, has changed.

    Args:
        environment: Has `NUMBA_CACHE_DIR`, else `STEERSMAN_CACHE`; without them it is the user's.

    """
    given = environment.get("NUMBA_CACHE_DIR") or environment.get("STEERSMAN_CACHE")
    root = Path(given) if given else user_cache_path("steersman")
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py")):
        digest.update(file.read_bytes())
    return root / "loops" / digest.hexdigest()[:16]


def compiled_ahead() -> bool:
    """True if the loops that every server needs are there."""
    return (directory() / DONE).exists()
