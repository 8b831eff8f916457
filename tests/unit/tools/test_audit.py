"""The audit: advisories that are new, listed, gone, and such as cannot be looked up."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tools import audit

FLAW = {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": ["CVE-1"], "description": "bad"}
REPORT: dict[str, Any] = {
    "dependencies": [
        {"name": "a", "version": "1.0", "vulns": []},
        {"name": "b", "version": "2.0", "vulns": [FLAW, {**FLAW, "id": "PYSEC-2", "aliases": []}]},
        # As another lock file has it too.
        {"name": "b", "version": "2.0", "vulns": [FLAW]},
        {"name": "c", "version": "3.0", "vulns": [{**FLAW, "fix_versions": []}]},
    ]
}
SAYS = {
    "b1": "b 2.0: PYSEC-1, CVE-1, mended in 2.1",
    "b2": "b 2.0: PYSEC-2, mended in 2.1",
    "c": "c 3.0: PYSEC-1, CVE-1, not mended in any version",
}


def listed(path: Path, *entries: tuple[str, str]) -> Path:
    file = path / "advisories.toml"
    entry = '[[known]]\npackage = "{}"\nid = "{}"\nreason = "pinned"\n'
    file.write_text("".join(entry.format(*one) for one in entries))
    return file


def test_a_new_advisory_is_a_complaint() -> None:
    assert [*audit.complaints(REPORT, {})] == [SAYS["b1"], SAYS["b2"], SAYS["c"]]


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_a_listed_one_is_not_by_any_of_its_names(name: str, tmp_path: Path) -> None:
    reasons = audit.known(listed(tmp_path, ("b", name)))
    assert [*audit.complaints(REPORT, reasons)] == [SAYS["b2"], SAYS["c"]]


def test_one_that_is_gone_has_to_go_from_the_list(tmp_path: Path) -> None:
    reasons = audit.known(listed(tmp_path, ("a", "CVE-1")))
    said = "a: CVE-1 is listed in advisories.toml, and not found any more"
    assert said in [*audit.complaints(REPORT, reasons)]


def test_whatever_was_not_looked_up_is_a_complaint() -> None:
    skipped = {"dependencies": [{"name": "d", "skip_reason": "no such release"}]}
    assert [*audit.complaints(skipped, {})] == ["d was not looked up: no such release"]


@pytest.mark.parametrize(
    "entry",
    [
        '[[known]]\npackage = "b"\nid = "CVE-1"\n',
        '[[known]]\npackage = "b"\nid = "CVE-1"\nreason = ""\n',
        '[[known]]\npackage = "b"\nid = "CVE-1"\nreason = "x"\nuntil = "2.1"\n',
    ],
)
def test_every_entry_has_a_reason(
    entry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "advisories.toml").write_text(entry)
    assert audit.main(["x.lock"], tmp_path / "advisories.toml") == 1
    assert "an entry has id, package, reason" in capsys.readouterr().out


def test_the_list_of_the_project_can_be_read() -> None:
    assert all(audit.known(audit.KNOWN).values())


@pytest.mark.parametrize(("entries", "code"), [([], 1), ([("b", "CVE-1"), ("c", "CVE-1")], 0)])
def test_the_command_fails_at_complaints(
    entries: list[tuple[str, str]], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip-audit itself ends with code 1 where it finds any."""
    flaws = {"b": REPORT["dependencies"][2], "c": REPORT["dependencies"][3]}
    script = f"import sys; print({json.dumps({'dependencies': [*flaws.values()]})!r}); sys.exit(1)"
    command = (sys.executable, "-c", script)
    assert audit.main(["x.lock"], listed(tmp_path, *entries), command) == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"complaints: {2 * code}")


def test_each_file_is_looked_up_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip-audit refuses a package that two of its files have."""
    script = (
        "import json, sys; assert len(sys.argv) == 3; "
        "print(json.dumps({'dependencies': [{'name': 'a', 'version': '1', 'vulns': []}, "
        "{'name': sys.argv[2], 'version': '1', 'vulns': []}]}))"
    )
    command = (sys.executable, "-c", script)
    assert audit.main(["x.lock", "y.lock"], listed(tmp_path), command) == 0
    assert "packages: 3, " in capsys.readouterr().out


def test_a_service_that_knows_no_package_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped = [{"name": name, "skip_reason": f"{name} not found"} for name in "ab"]
    command = (sys.executable, "-c", f"print({json.dumps({'dependencies': skipped})!r})")
    assert audit.main(["x.lock"], listed(tmp_path), command) == 1
    said = "audit: advisories cannot be looked up here: a not found\n"
    assert capsys.readouterr().out == said


def test_where_nothing_can_be_looked_up_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "import sys; print('a\\ntrace\\n\\nConnectionError: no route', file=sys.stderr)"
    command = (sys.executable, "-c", script)
    assert audit.main(["x.lock"], listed(tmp_path), command) == 1
    said = "audit: advisories cannot be looked up here: ConnectionError: no route\n"
    assert capsys.readouterr().out == said
