"""The smallest request that still does what a failing one did."""

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.fuzz.bodies import SCHEMAS
from tests.fuzz.mutation import at, paths, replaced, without
from tests.fuzz.wire import Case

Fails = Callable[[Case], Awaitable[bool]]


async def smallest(case: Case, fails: Fails, seconds: float) -> Case:
    """Take away from a failing request whatever it does not need.

    Args:
        case: The request.
        fails: Whether one fails in the same way.
        seconds: Time after which the smallest so far is good enough.

    """
    deadline = time.monotonic() + seconds
    shrunk = True
    while shrunk:
        shrunk = False
        for smaller in _smaller(case):
            if time.monotonic() > deadline:
                return case
            if await fails(smaller):
                case, shrunk = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Simpler requests, the largest steps first."""
    body = case.body
    if body is None:
        return
    plain = replace(case, content_type="application/json").with_body(body)
    if plain != case:
        yield plain
        yield replace(plain, content_type=case.content_type)
        yield replace(case, content_type="application/json")
    for endpoint in SCHEMAS:
        if endpoint in case.path and case.path != endpoint:
            yield replace(case, path=endpoint)
    if "control" in body and len(body) > 4:
        needed = {"control", "model", "messages", "prompt", "input", "max_tokens"}
        yield case.with_body({key: value for key, value in body.items() if key in needed})
    known = list(paths(body))
    yield from (case.with_body(without(body, path)) for path in known)
    for path in known:
        for simpler in _simpler(at(body, path)):
            yield case.with_body(replaced(body, path, simpler))


def _simpler(value: Any) -> Iterator[Any]:
    if isinstance(value, str) and len(value) > 1:
        yield from (value[: len(value) // 2], value[0])
    elif isinstance(value, float) and value == value and abs(value) < 1e300:
        for digits in (0, 1):
            if round(value, digits) != value:
                yield round(value, digits)
    elif isinstance(value, int) and abs(value) > 20:
        yield from (value // 2, 20)
