"""YAML documents of an operator."""

from pathlib import Path

import pytest

from steersman import named


class FileError(Exception):
    """A file that cannot be used."""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2", r"a key stands twice in one mapping \(line 2, column 1\)"),
        ("a: {b: {c: 1, c: 2}}", "a key stands twice"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!python/tuple [1]", "could not determine a constructor"),
        ("a: 'secret\n", r"not valid YAML: .* \(line 2, column 1\)"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(FileError, match=reason) as caught:
        named.document(path, FileError)
    assert "secret" not in str(caught.value)


def test_merged_mappings_may_be_overlaid(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}\n")
    assert named.document(path, FileError)["b"] == {"x": 1, "y": 2}
