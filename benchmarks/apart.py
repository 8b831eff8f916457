"""A contestant in a process of its own, which stands still while it has nothing to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Self

import psutil


class Apart:
    """Runs a function in another process.

    Args:
        serve: The function; it answers what comes through its connection, until that is closed.
            It sends None once it is ready.
        arguments: Its further arguments.

    """

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(target=serve, args=(child, *arguments))
        self._process.start()
        child.close()
        self._connection.recv()
        self._handle = psutil.Process(self._process.pid)
        self._suspend()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resume()
        self._connection.close()
        self._process.join()

    def ask(self, *message: Any) -> Any:
        """The answer to a message."""
        with self._running():
            self._connection.send(message)
            return self._connection.recv()

    @contextmanager
    def _running(self) -> Iterator[None]:
        self._resume()
        try:
            yield
        finally:
            self._suspend()

    def _everyone(self) -> list[psutil.Process]:
        return [self._handle, *self._handle.children(recursive=True)]

    def _suspend(self) -> None:
        for process in self._everyone():
            process.suspend()

    def _resume(self) -> None:
        for process in reversed(self._everyone()):
            process.resume()


def answer(connection: Connection, respond: Callable[..., Any]) -> None:
    """Answer messages by a function of their parts, until the connection is closed."""
    connection.send(None)
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        connection.send(respond(*message))
