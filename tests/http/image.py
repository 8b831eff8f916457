"""The server of an image, run by buildah."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.http.server import Server

IMAGE = "localhost/steersman:cpu"
"""`make test-image` builds it."""
_ROOT = Path(__file__).parents[2]


class Image(Server):
    """A server in a container of its own, as the image's user. The network is this machine's.

    The tests are mounted read-only, for the functions that their rewards name. The server may write
    to the directory that holds its log, and to those beside it.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(command, log, environment)
        self._given = dict(environment or {})
        self._container = ""

    def stop(self) -> None:
        super().stop()
        if self._container:
            _buildah("rm", self._container)
            self._container = ""

    def _launch(self) -> "subprocess.Popen[bytes]":
        self._container = _buildah("from", "--pull-never", IMAGE)
        shared = self._log.parent.parent
        for directory in (shared, *(one for one in shared.rglob("*") if one.is_dir())):
            directory.chmod(0o777)
        command = [
            *("buildah", "run", "--isolation", "chroot"),
            *("--volume", f"{_ROOT / 'tests'}:/mnt/tests:ro", "--env", "PYTHONPATH=/mnt"),
            *("--volume", f"{_ROOT / 'tests'}:{_ROOT / 'tests'}:ro"),
            *("--volume", f"{shared}:{shared}"),
            *(part for name, value in self._given.items() for part in ("--env", f"{name}={value}")),
            *(self._container, "--", "steersman"),
            *self._command[self._command.index("serve") :],
        ]
        return self._run(command)


def _buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
