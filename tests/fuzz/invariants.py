"""Invariants of every answer, whatever was asked."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from steersman_client import Receipt
from tests.fuzz.answer import DONE, Answer, NotJsonError, strict
from tests.fuzz.bodies import SCHEMAS
from tests.fuzz.books import contradictions
from tests.fuzz.surface import Surface
from tests.fuzz.wire import Case

_OURS = {"invalid_request_error", "rate_limit_error"}
_RESPONSE_ENDS = {"response.completed", "response.incomplete", "response.failed"}
_OF_THE_SERVER = {"dead engine", "changed answer", "held", "memory"}
_FIRST = re.compile(r"[^.\[]+")
_VARYING = re.compile(r"0x[0-9a-f]+|\d+|'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True)
class Violation:
    """Something that an answer must not be.

    Attributes:
        rule: Which rule it breaks.
        detail: How.

    """

    rule: str
    detail: str

    @property
    def kind(self) -> str:
        """The same for all violations that look alike."""
        if self.rule in _OF_THE_SERVER:
            return self.rule
        return f"{self.rule}: {_VARYING.sub('…', self.detail)[:160]}"


class Invariants:
    """The rules for the answers of one server.

    Args:
        surface: The server.

    """

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._fields = {
            field for schema in SCHEMAS.values() for field in surface.properties(schema)
        }

    def of_any(self, answer: Answer) -> Iterator[Violation]:
        """The rules of every answer, with a control or without."""
        if answer.broken is not None:
            yield Violation("broken", answer.broken)
            return
        if answer.status >= 500:
            yield Violation("5xx", f"{answer.status} {_shown(answer)}")
        try:
            yield from self._stream(answer) if answer.is_stream else self._whole(answer)
        except NotJsonError as error:
            yield Violation("no JSON", str(error))

    def of_controlled(self, case: Case, answer: Answer) -> Iterator[Violation]:
        """The rules of an answer to a request with a control, beside those of every answer."""
        if answer.broken is not None or answer.status not in {200, 400, 413, 429}:
            return
        try:
            if answer.status != 200:
                yield from self._refusal(answer)
                return
            if answer.is_stream:
                if _failed(answer):
                    return
                receipt, whole = _receipt_in_stream(answer), None
            else:
                whole = strict(answer.content)
                receipt = whole.get("control")
        except NotJsonError:
            return  # said already
        if receipt is None:
            yield Violation("no receipt", "a 200 without a receipt")
            return
        try:
            parsed = Receipt.model_validate(receipt)
        except ValidationError as error:
            yield Violation("receipt", str(error.errors(include_url=False)[0]))
            return
        yield from self._beyond_limits(parsed, whole)
        if answer.is_stream:
            yield from _unreported(case, answer)
        for contradiction in contradictions(parsed, whole, case.body or {}):
            yield Violation("books", contradiction)

    def refused_by_us(self, answer: Answer) -> bool:
        """True if the answer is the refusal of a control."""
        if answer.status not in {400, 413, 429} or answer.is_stream:
            return False
        try:
            error = _error(strict(answer.content))
        except NotJsonError:
            return False
        return error is not None and error.get("type") in _OURS

    def _whole(self, answer: Answer) -> Iterator[Violation]:
        if answer.status in {204, 307}:
            return
        value = strict(answer.content)
        if answer.status >= 400 and not _is_error(value):
            yield Violation("error object", f"{answer.status} {_shown(answer)}")

    def _stream(self, answer: Answer) -> Iterator[Violation]:
        events = answer.events
        values = [strict(event) for event in events if event != DONE]
        for value in values:
            if isinstance(value, dict) and (value.get("error") or value.get("type") == "error"):
                yield Violation("error in a stream", str(value)[:300])
        ended = bool(events) and (
            events[-1] == DONE or any(value.get("type") in _RESPONSE_ENDS for value in values)
        )
        if not ended:
            yield Violation("no end", f"a stream of {len(events)} events without its end")

    def _beyond_limits(self, receipt: Receipt, whole: Any) -> Iterator[Violation]:
        limits, search = self._surface.limits, receipt.applied.search
        choices = len(whole.get("choices") or ()) if whole else 0
        # The steps of a chain are launched one after another: there it is the chains that count.
        chains = (search.model_extra or {}).get("acceptance_by_chain") if search else None
        launched = search.launched if search else 0
        branches = max(choices, launched if chains is None else len(chains))
        if branches > limits["max_branches"]:
            yield Violation("limit", f"{branches} branches")
        if receipt.compute.sampled_tokens > limits["max_control_tokens"]:
            yield Violation("limit", f"{receipt.compute.sampled_tokens} tokens")

    def _refusal(self, answer: Answer) -> Iterator[Violation]:
        if not self.refused_by_us(answer):
            return
        error = _error(strict(answer.content)) or {}
        param = error.get("param")
        if param is None and answer.status == 413:
            return
        first = _FIRST.match(param or "")
        if first is None or first[0] not in {"control", *self._fields}:
            yield Violation("param", f"param {param!r}: {error.get('message')}")


def _unreported(case: Case, answer: Answer) -> Iterator[Violation]:
    """A stream of chunks with text of a monitored request, none of which says what was seen."""
    control = (case.body or {}).get("control")
    if not isinstance(control, dict) or control.get("monitor") is None:
        return
    values = [strict(event) for event in answer.events if event != DONE]
    texts = [c for v in values for c in v.get("choices", ()) if _says(c)]
    if texts and not any("live" in (value.get("control") or {}) for value in values):
        yield Violation("ignored", "a monitored stream without live values")


def _says(choice: Mapping[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return bool(choice.get("text") or delta.get("content") or delta.get("reasoning"))


def _receipt_in_stream(answer: Answer) -> Any:
    values = [strict(event) for event in answer.events if event != DONE]
    if not values:
        return None
    last = values[-1].get("response", values[-1])
    control = last.get("control")
    return control if isinstance(control, dict) and "compute" in control else None


def _failed(answer: Answer) -> bool:
    """True if a stream ended in an error, which has no receipt."""
    values = [strict(event) for event in answer.events if event != DONE]
    return any(_error(value) is not None or value.get("type") == "error" for value in values)


def _error(value: object) -> Mapping[str, Any] | None:
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else None


def _is_error(value: object) -> bool:
    error = _error(value)
    return (
        error is not None
        and isinstance(error.get("message"), str)
        and bool(error["message"])
        and isinstance(error.get("type"), str)
        and isinstance(error.get("code"), int)
        and isinstance(error.get("param"), str | None)
    )


def _shown(answer: Answer) -> str:
    return answer.content[:300].decode(errors="replace")
