"""Reading a request body: whether it may hold a control at all, and taking the control out."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from steersman.errors import ControlError

_MENTION = re.compile(
    rb'"control"'
    rb'|"model"\s*:\s*"(?:[^"\\]|\\.)*:'  # a model suffix
    rb"|\\u00[3467]"  # either of them, written with JSON escapes
    rb"|\x00",  # or in UTF-16 or UTF-32, which JSON parsers detect
    re.IGNORECASE,
)


class BodyTooLargeError(ControlError):
    """A body over the server's limit; the rest of it is not read."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the request body is over this server's limit of {limit} bytes", param=None, status=413
        )


@dataclass(frozen=True, slots=True)
class Controlled:
    """A body with a control.

    Attributes:
        control: The `control` field as it came; None if the model suffix alone asks for one.
        profile_suffix: The profile named by the model suffix.
        rest: The body without either, as vLLM gets it.

    """

    control: object
    profile_suffix: str | None
    rest: dict[str, Any]

    def written(self) -> bytes:
        """The rest as JSON, of which vLLM reads the very same values as of the body that came.

        Raises:
            RecursionError: It is nested too deeply.

        """
        # Not escaped: an escaped pair of lone surrogates would be read as one character.
        return json.dumps(self.rest, ensure_ascii=False).encode("utf-8", "surrogatepass")


async def read(receive: Receive, limit: int) -> bytes | None:
    """The whole body; None if the client hung up before its end.

    Raises:
        BodyTooLargeError: After `limit` bytes.

    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise BodyTooLargeError(limit)
        if not message.get("more_body", False):
            return b"".join(parts)


def bounded(receive: Receive, limit: int) -> Receive:
    """A `receive` that hands a body on as it comes, up to a limit.

    Reading more raises `BodyTooLargeError`.
    """
    size = 0

    async def receive_some() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise BodyTooLargeError(limit)
        return message

    return receive_some


def declared(headers: Headers) -> int:
    """The size that a body is said to have; 0 if nothing sensible is said of it."""
    length = headers.get("content-length", "")
    return int(length[:20]) if length.isdecimal() else 0


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out a body that was read already, then goes on with the client."""
    pending = [body]

    async def receive_again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return receive_again


def take_control(
    body: bytes, model_names: Sequence[str], profiles: Iterable[str]
) -> Controlled | None:
    """Take the control out of a body; None if there is none, or if the body is not an object.

    Args:
        body: The request body.
        model_names: Names under which the model is served, without suffix.
        profiles: Names that a suffix may have.

    Raises:
        ControlError: A served model with a suffix that is no profile, or two controls.

    """
    if not _MENTION.search(body):
        return None
    members: list[tuple[str, Any]] = []

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal members
        members = pairs  # the outermost object comes last
        return dict(pairs)

    try:
        rest = json.loads(body, object_pairs_hook=read_object)
    except (ValueError, RecursionError):
        return None  # vLLM says what is wrong with it
    if not isinstance(rest, dict):
        return None
    if sum(name == "control" for name, _ in members) > 1:
        raise ControlError("control is given more than once", param="control")
    control = rest.pop("control", None)
    suffix = _take_suffix(rest, model_names, profiles)
    if control is None and suffix is None:
        return None
    return Controlled(control, suffix, rest)


def uncontrolled(body: bytes) -> Controlled | None:
    """A body without a control, as one with an empty control; None if it is no JSON object."""
    rest = plain(body)
    return None if rest is None else Controlled(None, None, rest)


def plain(body: bytes) -> dict[str, Any] | None:
    """A body without a control; None if it is no JSON object."""
    try:
        rest = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return rest if isinstance(rest, dict) else None


def _take_suffix(
    rest: dict[str, Any], model_names: Sequence[str], profiles: Iterable[str]
) -> str | None:
    model = rest.get("model")
    if not isinstance(model, str) or model in model_names:
        return None
    name, colon, suffix = model.rpartition(":")
    if not colon or name not in model_names:
        return None
    if suffix not in profiles:
        known = ", ".join(sorted(f"{name}:{profile}" for profile in profiles)) or "none"
        raise ControlError(
            f"model {model!r}: {suffix!r} is not a profile of this server; it has: {known}",
            param="model",
        )
    rest["model"] = name
    return suffix
