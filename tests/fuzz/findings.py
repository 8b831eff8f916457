"""Findings of a run: counted by kind, written to files that can be asked again."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.invariants import Violation
from tests.fuzz.wire import Case

_LONG = 1500
"""Letters of a command that are worth printing."""


@dataclass
class Finding:
    """One kind of violation.

    Attributes:
        violation: The first of its kind.
        cases: The request that did it, as small as it got; or all that may have done it.
        also_plain: Whether the first does it without its control too.
        count: How many there were.

    """

    violation: Violation
    cases: Sequence[Case]
    also_plain: bool
    count: int = 1


@dataclass
class Findings:
    """All kinds that a run has found."""

    by_kind: dict[str, Finding] = field(default_factory=dict)

    def add(
        self, violation: Violation, cases: Sequence[Case], *, also_plain: bool = False
    ) -> Finding | None:
        """Count a violation; the finding if it is the first of its kind."""
        kind = ("without a control too " if also_plain else "") + violation.kind
        if kind in self.by_kind:
            self.by_kind[kind].count += 1
            return None
        self.by_kind[kind] = Finding(violation, cases, also_plain)
        return self.by_kind[kind]

    @property
    def violations(self) -> list[Finding]:
        """Findings that this project has to mend."""
        return [finding for finding in self.by_kind.values() if not finding.also_plain]

    @property
    def also_plain(self) -> list[Finding]:
        """Findings that occur without a control too."""
        return [finding for finding in self.by_kind.values() if finding.also_plain]


@dataclass
class Tally:
    """Counts of requests and their answers."""

    seed: int
    requests: int = 0
    skipped: int = 0
    seconds: float = 0.0
    by_status: Counter[str] = field(default_factory=Counter)
    by_outcome: Counter[str] = field(default_factory=Counter)


def written(finding: Finding, directory: Path) -> Path:
    """Write the requests of a finding to a file for `replay`; its path."""
    directory.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", finding.violation.kind.lower())[:60].strip("-")
    path = directory / f"{name}.json"
    kept = {
        "rule": finding.violation.rule,
        "detail": finding.violation.detail,
        "requests": [case.as_json() for case in finding.cases],
    }
    path.write_text(json.dumps(kept, indent=1))
    return path


def read(path: Path) -> list[Case]:
    """The requests of a file."""
    return [Case.of_json(kept) for kept in json.loads(path.read_text())["requests"]]


def described(finding: Finding, url: str) -> str:
    """A few lines on a finding, with the command that asks its request."""
    lines = [f"{finding.count} × {finding.violation.rule}: {finding.violation.detail[:600]}"]
    if len(finding.cases) == 1:
        command = finding.cases[0].curl(url)
        lines.append(command if len(command) < _LONG else f"{command[:_LONG]} … (see the file)")
    elif finding.cases:
        lines.append(f"by one of {len(finding.cases)} requests, or by several together")
    return "\n    ".join(lines)
