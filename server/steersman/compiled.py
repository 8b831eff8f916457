"""Directory for code that PyTorch compiles while the engine serves: one it can be loaded from.

Docker mounts a `tmpfs` such that it cannot. There the first request for log-probabilities, for
which a function is compiled, would end the engine.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from steersman.models.cache import default_root

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Names the directory; without it, it is in the one for temporary files."""
_CPUS = Path("/proc/cpuinfo")


class NoPlaceError(Exception):
    """No directory is there that compiled code can be loaded from."""


def place(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have compiled code kept in the cache directory, if it could not be loaded from its usual one.

    Args:
        environment: Variables that the engine's processes get.

    Raises:
        NoPlaceError: It could not be loaded from there either, or from where the variable says.

    """
    given = environment.get(VARIABLE)
    if loads(Path(given or tempfile.gettempdir())):
        return
    own = default_root(environment) / "compiled" / _machine()
    if given or not loads(own):
        raise NoPlaceError(
            f"code that is compiled while serving cannot be loaded from {given or own}, which is "
            f"mounted noexec: set {VARIABLE} to a directory that is not"
        )
    environment[VARIABLE] = str(own)


def loads(path: Path) -> bool:
    """Tell whether code can be loaded from a directory, which need not be there yet."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    return not os.statvfs(there).f_flag & os.ST_NOEXEC


def _machine() -> str:
    """Digest of what this machine's processors can do: code for others may not run here."""
    flags = re.search(r"^(?:flags|Features)\s*:.*$", _CPUS.read_text(), re.MULTILINE)
    return hashlib.sha256(flags[0].encode() if flags else b"").hexdigest()[:16]
