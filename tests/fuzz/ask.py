"""Asking one request, to its end or until the client hangs up."""

import math
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Self

import anyio
import httpx

from tests.fuzz.answer import Answer
from tests.fuzz.wire import Case

ANSWER_SECONDS = 120.0
_WAIT_SECONDS = 0.001, 0.4
"""Shortest and longest wait: all magnitudes alike, so that fast answers are cut too."""
_CHUNKS = 12


@dataclass(frozen=True)
class Cut:
    """Point at which a client hangs up.

    Attributes:
        where: While it sends the body, some seconds after it has asked, or after some chunks.
        seconds: For `waiting`.
        chunks: For `reading`.

    """

    where: Literal["sending", "waiting", "reading"]
    seconds: float = 0.0
    chunks: int = 0

    @classmethod
    def drawn(cls, source: random.Random, stays: float = 1 / 3) -> Self | None:
        """One from a random source; None, in a share of the draws, for a client that stays."""
        if source.random() < stays:
            return None
        drawn = source.random()
        if drawn < 0.1:
            return cls("sending")
        if drawn < 0.55:
            return cls("waiting", seconds=math.exp(source.uniform(*map(math.log, _WAIT_SECONDS))))
        return cls("reading", chunks=source.randrange(_CHUNKS))


class _HungUpError(Exception):
    """The client does not want the rest."""


async def ask(http: httpx.AsyncClient, case: Case, cut: Cut | None = None) -> Answer:
    """Ask a request and take what comes.

    Args:
        http: Client of the server.
        case: The request.
        cut: Where to hang up; None for not at all.

    """
    seconds = cut.seconds if cut and cut.where == "waiting" else ANSWER_SECONDS
    answer = Answer(broken=f"no answer within {ANSWER_SECONDS:.0f} s")
    try:
        with anyio.move_on_after(seconds) as limit:
            answer = await _asked(http, case, cut)
        if limit.cancelled_caught and cut is not None:
            return Answer(cut=True)
    except _HungUpError:
        return Answer(cut=True)
    except httpx.HTTPError as error:
        return Answer(broken=f"{type(error).__name__}: {error}", cut=cut is not None)
    return answer


async def _asked(http: httpx.AsyncClient, case: Case, cut: Cut | None) -> Answer:
    headers = case.headers
    content: bytes | _Half = case.content
    if cut and cut.where == "sending":
        headers = {**headers, "content-length": str(len(case.content))}
        content = _Half(case.content)
    async with http.stream(
        "POST", f"{str(http.base_url).rstrip('/')}{case.path}", content=content, headers=headers
    ) as response:
        parts = []
        async for part in response.aiter_raw():
            parts.append(part)
            if cut and cut.where == "reading" and len(parts) > cut.chunks:
                raise _HungUpError
        return Answer(
            status=response.status_code,
            content_type=response.headers.get("content-type", "").partition(";")[0],
            content=b"".join(parts),
        )


class _Half:
    """Half of a body, and then nothing: the client is gone."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content[: len(self._content) // 2]
        raise _HungUpError
