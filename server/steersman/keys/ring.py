"""All keys of a server."""

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence

from steersman.keys.file import KeyFileError
from steersman.keys.key import Key, Scope, digest

API_KEY = "api-key"
ADMIN_KEY = "admin-api-key"


class Keys:
    """The keys of a server.

    Args:
        api_keys: Keys of `--api-key`.
        admin_key: The key of `--admin-api-key`.
        filed: Keys of the operator's file; None without a file.

    Raises:
        KeyFileError: Two keys of one name, or one key under two names.

    """

    def __init__(
        self,
        api_keys: Iterable[str] = (),
        admin_key: str | None = None,
        filed: Sequence[Key] | None = None,
    ) -> None:
        ordinary = list(dict.fromkeys(api_keys))
        given = [
            Key(API_KEY if place == 0 else f"{API_KEY}-{place + 1}", digest(key))
            for place, key in enumerate(ordinary)
        ]
        if admin_key:
            scopes = frozenset({Scope.USE, Scope.ADMIN})
            given.append(Key(ADMIN_KEY, digest(admin_key), scopes))
        self._keys = (*given, *(filed or ()))
        _check(self._keys)
        self.closed = bool(ordinary) or filed is not None
        """True: a request needs a key. `--admin-api-key` alone guards changes, and nothing else."""
        self.has_admin = any(Scope.ADMIN in key.scopes for key in self._keys)
        """True: some key may change the server."""
        self.scoped = self.has_admin or filed is not None
        """True: vLLM's routes of operators need an admin key. On a server with `--api-key` alone
        any key is good for them."""

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def find(self, given: str) -> Key | None:
        """The key that a request brings, None if it is none of these; in constant time."""
        # Headers come decoded as Latin-1, whatever the client wrote.
        own, found = hashlib.sha256(given.encode("latin-1")).digest(), None
        for key in self._keys:
            if secrets.compare_digest(own, key.digest):
                found = key
        return found


def _check(keys: Iterable[Key]) -> None:
    names: set[str] = set()
    digests: dict[bytes, str] = {}
    for key in keys:
        if key.name in names:
            raise KeyFileError(f"two keys have the name {key.name!r}")
        if key.digest in digests:
            raise KeyFileError(f"{digests[key.digest]!r} and {key.name!r} are the same key")
        names.add(key.name)
        digests[key.digest] = key.name
