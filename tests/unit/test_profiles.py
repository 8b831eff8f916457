"""Profile files, and how a request builds on a profile."""

from pathlib import Path

import pytest

from steersman.profiles import ProfileError, load, merge


def test_a_file_of_profiles(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(
        "fast:\n  description: Four at once.\n"
        "  control:\n    search: {method: first_finish, n: 4}\n"
    )
    profile = load(path)["fast"]
    assert profile.description == "Four at once."
    assert profile.control == {"search": {"method": "first_finish", "n": 4}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
        ("A b: {control: {}}", "profile name 'A b'"),
        ("a:b: {control: {}}", "profile name 'a:b'"),
        ("3: {control: {}}", "profile name 3"),
        ("fast: {}", r"fast\.control"),
        ("fast: 1", "fast: "),
        ("fast: {control: {}, extra: 1}", r"fast\.extra"),
        ("fast: {control: {profile: other}}", "cannot name another"),
        ("fast: {control: {serach: {}}}", r"fast\.control\.serach: unknown field"),
        (
            "fast: {control: {search: {method: first_finish, n: 0}}}",
            r"fast\.control\.search\.n: ",
        ),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message):
        load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        load(tmp_path / "none.yaml")


def test_explicit_fields_win() -> None:
    base = {"search": {"method": "a", "n": 1, "k": 2}, "steer": [1, 2], "monitor": {"tokens": True}}
    assert merge(base, {"search": {"n": 9}, "steer": [3]}) == {
        "search": {"method": "a", "n": 9, "k": 2},
        "steer": [3],
        "monitor": {"tokens": True},
    }
    assert merge(base, {"search": None})["search"] is None
    assert merge(base, {"search": {"method": "b"}})["search"] == {"method": "b"}
    assert base["search"] == {"method": "a", "n": 1, "k": 2}
