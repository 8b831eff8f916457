"""One request judged: its answer against the rules, and against the answer without its control."""

import json
import re
from dataclasses import dataclass

import httpx

from tests.fuzz.answer import Answer
from tests.fuzz.ask import ask
from tests.fuzz.bodies import SCHEMAS
from tests.fuzz.invariants import Invariants, Violation
from tests.fuzz.spelling import canonical
from tests.fuzz.surface import Surface
from tests.fuzz.wire import Case


@dataclass(frozen=True)
class Verdict:
    """Verdict on an answer.

    Attributes:
        violations: What this project has to mend.
        also_plain: What the same request without its control does too.

    """

    violations: tuple[Violation, ...] = ()
    also_plain: tuple[Violation, ...] = ()


class Judge:
    """Judges answers of one server.

    Args:
        surface: The server.
        http: Client of it.

    """

    def __init__(self, surface: Surface, http: httpx.AsyncClient) -> None:
        self._invariants = Invariants(surface)
        self._surface = surface
        self._http = http
        self._models = (surface.model,)
        self._profiles = surface.names.get("profile", ())

    def controlled(self, case: Case) -> bool:
        """True if a request has a control."""
        return case.controlled(self._profiles)

    def outcome(self, case: Case, answer: Answer) -> str:
        """In a word, for the summary."""
        if answer.cut:
            return "hung up"
        if not self.controlled(case):
            return "without a control"
        if self._invariants.refused_by_us(answer):
            return "control refused"
        return "answered with a control" if answer.status == 200 else "refused by vLLM"

    async def judged(self, case: Case, answer: Answer, *, compare: bool) -> Verdict:
        """Verdict on an answer.

        Args:
            case: The request.
            answer: Its answer.
            compare: Whether to ask again without the control even if nothing seems wrong.

        """
        if answer.cut:
            return Verdict()
        found = list(self._invariants.of_any(answer))
        controlled = self.controlled(case)
        if controlled:
            found += self._invariants.of_controlled(case, answer)
        plain = case.without_control(self._models, self._profiles)
        compare &= controlled and answer.broken is None
        found += await self._misread(case, answer)
        if not found and not compare:
            return Verdict()
        if plain == case:
            return Verdict(also_plain=tuple(found))
        twin = await ask(self._http, plain)
        own = {violation.rule for violation in self._invariants.of_any(twin)}
        if compare:
            found += self._differences(answer, twin)
        return Verdict(
            tuple(violation for violation in found if violation.rule not in own),
            tuple(violation for violation in found if violation.rule in own),
        )

    async def _misread(self, case: Case, answer: Answer) -> list[Violation]:
        """True if the same values in the types of the schema would be answered in another way."""
        body = case.body
        if body is None or not self.controlled(case) or case.path not in SCHEMAS:
            return []
        proper = canonical(body, self._surface.properties(SCHEMAS[case.path]))
        if json.dumps(proper) == json.dumps(body):
            return []
        same = await ask(self._http, case.with_body(proper))
        if _class(same) == _class(answer):
            return []
        # Some of vLLM's checks see the value as it came.
        plain = [
            await ask(self._http, one.without_control(self._models, self._profiles))
            for one in (case, case.with_body(proper))
        ]
        if [_class(one) for one in plain] == [_class(answer), _class(same)]:
            return []
        shown = f"as it came {_shown(answer)}, in the schema's types {_shown(same)}"
        return [Violation("misread", shown)]

    def suspicious(self, case: Case, answer: Answer) -> bool:
        """True if an answer that looks right should be compared in any case."""
        by_vllm = 400 <= answer.status < 500 and not self._invariants.refused_by_us(answer)
        return by_vllm or case.path not in SCHEMAS

    def _differences(self, answer: Answer, plain: Answer) -> list[Violation]:
        """Fields of the body that mean something else beside a control."""
        shown = f"with a control {_shown(answer)}, without {_shown(plain)}"
        refused = self._invariants.refused_by_us(answer)
        if answer.status == 200 and plain.status >= 400:
            return [Violation("takes what vLLM refuses", shown)]
        if refused and 300 <= plain.status < 400:
            return [Violation("refuses a redirect", shown)]
        if not refused and answer.status != plain.status:
            return [Violation("another status", shown)]
        if not refused and answer.status >= 400 and _words(answer) != _words(plain):
            return [Violation("another message", shown)]
        return []


def _words(answer: Answer) -> bytes:
    """The answer without its numbers: of several prompts any may be the first that is refused."""
    return re.sub(rb"\d+", b"0", answer.content)


def _class(answer: Answer) -> tuple[int, bool]:
    return answer.status, answer.is_stream


def _shown(answer: Answer) -> str:
    if answer.status == 200:
        return "200"
    return f"{answer.status} {answer.content[:300].decode(errors='replace')}"
