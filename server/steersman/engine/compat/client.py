"""The front end's calls on every engine behind vLLM's client, where there may be several."""

import asyncio
from collections.abc import Sequence
from typing import Any

from vllm.engine.protocol import EngineClient


async def collective_rpc(engine: EngineClient, method: str, args: Sequence[Any]) -> list[Any]:
    """Call a method of every worker of every engine.

    vLLM's own call waits for all engines of a data-parallel server as well, but hands on the
    answers of the first alone, and raises before all are done.

    Returns:
        The answers of all workers, engine by engine.

    Raises:
        Exception: An error of an engine; by then every engine has answered.

    """
    client: Any = getattr(engine, "engine_core", None)
    if not hasattr(client, "core_engines"):  # no client of engines in processes of their own
        answers: list[Any] = await engine.collective_rpc(method, args=tuple(args))
        return answers
    calls = [
        client._call_utility_async(
            "collective_rpc", method, None, tuple(args), None, engine=identity
        )
        for identity in client.core_engines
    ]
    by_engine = await asyncio.gather(*calls, return_exceptions=True)
    for answer in by_engine:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for own in by_engine for answer in own]  # type: ignore[union-attr]
