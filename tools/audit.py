"""Look for known advisories about the packages that the lock files name.

`python tools/audit.py LOCK...` has pip-audit look up each release. It prints a line for each
advisory that `requirements/advisories.toml` does not list, and ends with code 1 if there is any.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KNOWN = Path(__file__).resolve().parents[1] / "requirements/advisories.toml"
PIP_AUDIT = (
    *(sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off"),
    *("--require-hashes", "--disable-pip"),
)
_FIELDS = {"package", "id", "reason"}


class AuditError(Exception):
    """Advisories that cannot be looked up, or a list of known ones that cannot be read."""


@dataclass(frozen=True, slots=True)
class Advisory:
    """An advisory about a release that a lock file names.

    Attributes:
        package: Its name.
        version: Its version.
        names: The advisory's names: PYSEC, CVE, GHSA, ...
        fixed: Versions without the weakness.

    """

    package: str
    version: str
    names: tuple[str, ...]
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        mend = f"mended in {', '.join(self.fixed)}" if self.fixed else "not mended in any version"
        return f"{self.package} {self.version}: {', '.join(self.names)}, {mend}"


def report(locks: Sequence[str], command: Sequence[str] = PIP_AUDIT) -> Any:
    """The reports of pip-audit about lock files, as one; it takes no package from two files.

    Raises:
        AuditError: It has none.

    """
    found = [one for lock in locks for one in _report(lock, command)["dependencies"]]
    if found and all("skip_reason" in one for one in found):
        raise AuditError(f"advisories cannot be looked up here: {found[0]['skip_reason']}")
    return {"dependencies": found}


def _report(lock: str, command: Sequence[str]) -> Any:
    asked = [*command, "--requirement", lock]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        raise AuditError(f"advisories cannot be looked up here: {said[-1].strip()}") from error


def advisories(report: Any) -> Iterator[Advisory]:
    """The advisories of a report, each once."""
    found = {
        Advisory(
            one["name"], one["version"], (flaw["id"], *flaw["aliases"]), (*flaw["fix_versions"],)
        )
        for one in report["dependencies"]
        for flaw in one.get("vulns", ())
    }
    yield from sorted(found, key=str)


def left_out(report: Any) -> Iterator[str]:
    """Packages that could not be looked up, each with the reason."""
    for one in report["dependencies"]:
        if "skip_reason" in one:
            yield f"{one['name']} was not looked up: {one['skip_reason']}"


def known(path: Path) -> Mapping[tuple[str, str], str]:
    """Reasons of the listed advisories, by package and name.

    Raises:
        AuditError: An entry lacks something, or has more.

    """
    listed = tomllib.loads(path.read_text()).get("known", [])
    for one in listed:
        if one.keys() != _FIELDS or not all(one.values()):
            raise AuditError(f"{path.name}: an entry has {', '.join(sorted(_FIELDS))}: {one}")
    return {(one["package"], one["id"]): one["reason"] for one in listed}


def complaints(report: Any, reasons: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """A line for whatever a person has to look at.

    Args:
        report: Of pip-audit.
        reasons: Those of `known`.

    """
    seen: set[tuple[str, str]] = set()
    for advisory in advisories(report):
        here = {(advisory.package, name) for name in advisory.names} & reasons.keys()
        seen |= here
        if not here:
            yield str(advisory)
    for package, name in sorted(reasons.keys() - seen):
        yield f"{package}: {name} is listed in {KNOWN.name}, and not found any more"
    yield from left_out(report)


def main(locks: Sequence[str], path: Path = KNOWN, command: Sequence[str] = PIP_AUDIT) -> int:
    """Print the complaints about lock files; 1 if there is any, or if nothing could be looked up.

    Args:
        locks: Paths of the lock files.
        path: The list of known advisories.
        command: Runs pip-audit.

    """
    try:
        reasons = known(path)
        found = report(locks, command)
    except AuditError as error:
        print(f"audit: {error}")
        return 1
    lines = [*complaints(found, reasons)]
    for line in lines:
        print(f"audit: {line}")
    looked = len({(one["name"], one.get("version")) for one in found["dependencies"]})
    print(f"audit: packages: {looked}, known advisories: {len(reasons)}, complaints: {len(lines)}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
