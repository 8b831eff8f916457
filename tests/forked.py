"""Processes forked from one that has made their imports: importing vLLM takes ten seconds."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any


class Template:
    """A fork server of its own: Python's standard library has one, with one set of imports.

    Args:
        module: What it imports, once, before anything is forked from it.

    """

    def __init__(self, module: str) -> None:
        self._server = forkserver.ForkServer()
        self._server.set_forkserver_preload(["tests.bytecode", module])

    @contextlib.contextmanager
    def context(self) -> Iterator[ForkServerContext]:
        """Start processes from this template, in the `with` block."""
        known = forkserver.connect_to_new_process
        threads = os.environ.get("OMP_NUM_THREADS")
        # A thread of OpenMP is not there in a fork, and would be waited for.
        os.environ["OMP_NUM_THREADS"] = "1"
        forkserver.connect_to_new_process = self._server.connect_to_new_process
        try:
            yield multiprocessing.get_context("forkserver")
        finally:
            forkserver.connect_to_new_process = known
            del os.environ["OMP_NUM_THREADS"]
            if threads is not None:
                os.environ["OMP_NUM_THREADS"] = threads

    def start(self, target: Callable[..., Any], *args: Any) -> BaseProcess:
        """Fork a process that calls this, as it is found by its module and name."""
        with self.context() as context:
            process = context.Process(target=target, args=args)
            process.start()
        return process


def fork_workers() -> None:
    """Have vLLM fork its engine and workers from this process, where it would spawn them."""
    from vllm.utils import system_utils

    class Forks:
        get_context = staticmethod(lambda _: multiprocessing.get_context("fork"))

    system_utils.multiprocessing = Forks
