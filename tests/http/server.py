"""The servers that the tests share."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import ClassVar, cast

import httpx
import pytest

from steersman.local import LocalServer
from tests.forked import Template, fork_workers

API_KEY = "sk-test"
ADMIN_KEY = "sk-admin"
TEMPLATE = Template("tests.http.imported")
RESPONSES = pytest.param("responses", marks=pytest.mark.scale(not_on={"replicas"}))
"""The endpoint as a test's parameter: vLLM's router sends no key on to it."""


class Server(LocalServer):
    """A local server that wants a key."""

    headers: ClassVar[Mapping[str, str]] = {"Authorization": f"Bearer {API_KEY}"}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=300, headers=self.headers)


class ForkedServer(Server):
    """A server that runs the same command, and has vLLM imported when it starts."""

    def _launch(self) -> "subprocess.Popen[bytes]":
        arguments = self._command[self._command.index("serve") :]
        process = TEMPLATE.start(_serve, arguments, self._environment, self._log)
        return cast("subprocess.Popen[bytes]", _Process(process))


class _Process:
    """The part of a `subprocess.Popen` that a local server uses."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid = process.pid
        self.terminate = process.terminate

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("steersman", timeout or 0.0)
        return self._process.exitcode


def _serve(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Do what `python -m steersman` does, in a session of its own."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    os.environ.clear()
    os.environ.update({**environment, "VLLM_CPU_OMP_THREADS_BIND": "nobind"})
    sys.argv = ["steersman", *arguments]
    fork_workers()
    # The event loop hears of signals by this; those of the engine are not meant for it.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    from steersman.cli import app

    app(prog_name="steersman")
