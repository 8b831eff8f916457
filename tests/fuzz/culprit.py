"""Search for the request of a batch that did it, and the least of it that does."""

from collections.abc import Sequence

import httpx

from tests.fuzz.ask import ask
from tests.fuzz.findings import Findings
from tests.fuzz.invariants import Violation
from tests.fuzz.judge import Judge
from tests.fuzz.known import KnownAnswers
from tests.fuzz.shrink import smallest
from tests.fuzz.target import Target
from tests.fuzz.wire import Case

_DEATH_SECONDS = 1.0
_RESTARTS_FOR_SHRINKING = 4


class Culprit:
    """Asks again, one request at a time.

    Args:
        target: The server.
        http: Client of it.
        judge: Judges single answers.
        known: The plain answers.
        seconds: Time for making one request small.

    """

    def __init__(
        self,
        target: Target,
        http: httpx.AsyncClient,
        judge: Judge,
        known: KnownAnswers,
        seconds: float,
    ) -> None:
        self._target = target
        self._http = http
        self._judge = judge
        self._known = known
        self._seconds = seconds

    async def shrunk(self, case: Case, violation: Violation) -> Case:
        """The smallest request whose answer breaks the same rule."""

        async def fails(smaller: Case) -> bool:
            answer = await ask(self._http, smaller)
            verdict = await self._judge.judged(smaller, answer, compare=True)
            return violation.kind in {found.kind for found in verdict.violations}

        return await smallest(case, fails, self._seconds)

    async def find(self, findings: Findings, violation: Violation, cases: Sequence[Case]) -> bool:
        """Count what hurt the whole server, find the request if it is new, and begin anew.

        Returns:
            Whether the server is well again.

        """
        finding = findings.add(violation, cases)
        if not self._target.restarts:
            return False
        await self._target.restart()
        if finding is None:
            return True
        for case in cases:
            if not self._target.restarts:
                return False
            if await self._hurts(case, violation):
                finding.cases = [case]
                await self._target.restart()
                finding.cases = [await self._shrunk_with_restarts(case, violation)]
                return not await self._target.dies(0)
        return True

    async def _shrunk_with_restarts(self, case: Case, violation: Violation) -> Case:
        left = min(_RESTARTS_FOR_SHRINKING, self._target.restarts)

        async def fails(smaller: Case) -> bool:
            nonlocal left
            if left <= 0 or not await self._hurts(smaller, violation):
                return False
            left -= 1
            await self._target.restart()
            return True

        return await smallest(case, fails, self._seconds * _RESTARTS_FOR_SHRINKING)

    async def _hurts(self, case: Case, violation: Violation) -> bool:
        answer = await ask(self._http, case)
        failed = answer.broken is not None or answer.status >= 500
        if await self._target.dies(_DEATH_SECONDS if failed else 0):
            return violation.rule == "dead engine"
        return violation.rule != "dead engine" and bool(await self._known.changed(self._http))
