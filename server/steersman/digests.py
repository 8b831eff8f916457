"""Digests of what operators have loaded into a server, by which replicas can be compared."""

import hashlib
import json
from collections.abc import Iterable, Mapping

from steersman.artifacts.artifact import A
from steersman.artifacts.files import Entry
from steersman.capabilities import Digests
from steersman.profiles import Profile
from steersman.steering.desk import Desk

KINDS = ("vectors", "edits", "live_edits", "profiles")
"""Digests of `Digests`, but that of all together."""


def digests(desk: Desk | None, profiles: Mapping[str, Profile]) -> Digests:
    """The digests, as of now.

    Args:
        desk: Vectors and edits; None on a server without steering.
        profiles: The server's profiles.

    """
    contents = {
        "vectors": _contents(desk.store if desk else ()),
        "edits": _contents(desk.edits if desk and desk.edits else ()),
        "live_edits": _contents(desk.live.entries if desk else ()),
        "profiles": {name: profile.control for name, profile in profiles.items()},
    }
    return Digests(all=_digest(contents), **{kind: _digest(contents[kind]) for kind in KINDS})


def number(digest: str) -> int:
    """A digest as a number that a metric can have: its first 48 bits, which a float holds."""
    return int(digest[:12], 16)


def _contents(entries: Iterable[Entry[A]]) -> dict[str, str]:
    return {entry.name: entry.artifact.digest for entry in entries}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
