"""The file of keys: all that it says, and no fault that shows a key."""

import re
from pathlib import Path

import pytest

from steersman.keys.file import KeyFileError, load
from steersman.keys.key import KeyLimits, Scope, digest

SECRET = "sk-very-secret"


def write(directory: Path, text: str) -> Path:
    path = directory / "keys.yaml"
    path.write_text(text)
    return path


def test_all_fields(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"""
- name: alice
  key: {SECRET}
- name: ops
  sha256: {digest("other").hex().upper()}
  scopes: [admin, metrics]
  limits: {{concurrency: 2, fan_out: 4, tokens_per_minute: 600}}
  priority: -1
""",
    )
    alice, ops = load(path)
    assert (alice.name, alice.digest) == ("alice", digest(SECRET))
    assert alice.scopes == {Scope.USE}
    assert (alice.limits, alice.priority) == (KeyLimits(), None)
    assert (ops.name, ops.digest) == ("ops", digest("other"))
    assert ops.scopes == {Scope.ADMIN, Scope.METRICS}
    assert ops.priority == -1
    assert ops.limits == KeyLimits(concurrency=2, fan_out=4, tokens_per_minute=600)
    assert SECRET not in repr(alice)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "expected a list of keys"),
        (f"alice: {SECRET}", "expected a list of keys"),
        (f"- {SECRET}", r"\[0\]: Input should be"),
        ("- {name: alice}", "give either key or sha256"),
        (f"- {{name: a, key: {SECRET}, sha256: {'a' * 64}}}", "give either key or sha256"),
        (f"- {{key: {SECRET}}}", r"\[0\]\.name: Field required"),
        (f"- {{name: Alice, key: {SECRET}}}", r"\[0\]\.name: use lower-case letters"),
        (f"- {{name: a, key: {SECRET}, admin: true}}", r"\[0\]\.admin: Extra inputs"),
        (f"- {{name: a, key: '{SECRET} '}}", r"\[0\]\.key: String should match"),
        ("- {name: a, key: ''}", r"\[0\]\.key: String should match"),
        ("- {name: a, key: 7}", r"\[0\]\.key: Input should be a valid string"),
        ("- {name: a, sha256: abc}", r"\[0\]\.sha256: String should match"),
        (f"- {{name: a, key: {SECRET}, scopes: []}}", r"\[0\]\.scopes: "),
        (f"- {{name: a, key: {SECRET}, scopes: [root]}}", r"\[0\]\.scopes\.0: "),
        (f"- {{name: a, key: {SECRET}, limits: {{rate: 1}}}}", r"\[0\]\.limits\.rate: Extra"),
        (f"- {{name: a, key: {SECRET}, limits: {{fan_out: 0}}}}", r"\[0\]\.limits\.fan_out: "),
        (f"- {{name: a, name: b, key: {SECRET}}}", "stands twice"),
        (f"- !!python/name:os.system {SECRET}", "not valid YAML"),
        (f"- key: {SECRET}\n  name: [", r"not valid YAML: .* \(line 2, column 10\)"),
    ],
)
def test_a_bad_file_is_one_line_without_a_key(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(KeyFileError, match=reason) as caught:
        load(write(tmp_path, text))
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/serving.md").read_text()
    example = re.search(r"```yaml\n(- name: alice.*?)```", page, re.DOTALL)
    assert example is not None
    keys = load(write(tmp_path, example[1]))
    assert [key.name for key in keys] == ["alice", "batch", "prometheus", "ops"]
    assert [key.priority for key in keys] == [None, 10, None, None]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read"):
        load(tmp_path / "none.yaml")
