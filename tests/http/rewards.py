"""Rewards of the tests' server: one that works, and one for each way to fail."""

import asyncio
import math
import threading
from collections.abc import Sequence
from pathlib import Path

from steersman.reward.candidate import Candidate

_scored: dict[str, int] = {}


def brief(candidates: Sequence[Candidate]) -> list[float]:
    """The fewer tokens, the better."""
    return [-one.tokens / 10 for one in candidates]


def was_asked(candidates: Sequence[Candidate]) -> list[float]:
    """1 for a response whose prompt and messages end in what the request says that they do."""
    return [
        float(
            one.data.text in one.prompt
            and [message["content"] for message in one.messages] == one.data.messages
        )
        for one in candidates
    ]


async def hangs(candidates: Sequence[Candidate]) -> list[float]:
    """Hangs; first it makes the files that requests ask for, as a sign that it does."""
    for one in candidates:
        if (begun := one.data.model_dump().get("begun")) is not None:
            await asyncio.to_thread(Path(begun).touch)
    await asyncio.sleep(3600)
    return [0.0 for _ in candidates]


def blocks(candidates: Sequence[Candidate]) -> list[float]:
    """Hangs in its thread, which nobody can end."""
    threading.Event().wait()
    return [0.0 for _ in candidates]


def breaks(candidates: Sequence[Candidate]) -> list[float]:
    raise RuntimeError("the disk is full")


def is_no_number(candidates: Sequence[Candidate]) -> list[float]:
    return [math.nan for _ in candidates]


def gives_too_few(candidates: Sequence[Candidate]) -> list[float]:
    return [0.0 for _ in candidates[1:]]


def fails_later(candidates: Sequence[Candidate]) -> list[float]:
    """Fails from the fourth response of a request on, which gives a name for itself."""
    for one in candidates:
        count = _scored[one.data.name] = _scored.get(one.data.name, 0) + 1
        if count > 3:
            raise RuntimeError("the disk is full")
    return [0.0 for _ in candidates]
