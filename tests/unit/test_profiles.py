"""Profile files, and how a request builds on a profile."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from steersman.profiles import Profile, ProfileError, Profiles, load, merge


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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


FAST = "fast: {control: {search: {method: first_finish, n: 4}}}\n"
PLAIN = "plain: {control: {}}\n"


def servable(profiles: Mapping[str, Profile]) -> None:
    """Refuse profiles that a made-up server without vectors could not serve."""
    if steered := [name for name, one in profiles.items() if "steer" in one.control]:
        raise ProfileError(f"profile {steered[0]!r}: unknown vector")


async def follow(profiles: Profiles) -> tuple[str, ...]:
    """Look as often as it takes for a change to be taken over."""
    await profiles.follow(servable)
    return await profiles.follow(servable)


def test_the_later_file_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(FAST + PLAIN)
    two.write_text("fast: {description: Mine., control: {}}")
    profiles = Profiles([one, two])
    assert dict(profiles) == {}
    profiles.load()
    assert list(profiles) == ["fast", "plain"]
    assert profiles["fast"].description == "Mine."
    with pytest.raises(ProfileError, match="cannot be read"):
        Profiles([tmp_path / "none.yaml"]).load()


@pytest.mark.anyio
async def test_changed_files_change_all_profiles_at_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(FAST)
    two.write_text(PLAIN)
    profiles = Profiles([one, two])
    assert await profiles.follow(servable) == ()
    items = profiles.items()
    one.write_text("slow: {control: {}}\n")
    assert await profiles.follow(servable) == ()
    assert set(profiles) == {"fast", "plain"}, "it may still be written"
    assert await profiles.follow(servable) == ()
    assert set(profiles) == {"slow", "plain"}
    assert {name for name, _ in items} == {"fast", "plain"}, "of one moment"


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["fast: [", "fast: {control: {serach: {}}}", "A b: {}", None])
async def test_profiles_stay_when_their_file_is_broken(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(FAST)
    profiles = Profiles([path])
    await follow(profiles)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    (fault,) = await follow(profiles)
    assert str(path) in fault
    assert await follow(profiles) == (fault,)
    assert set(profiles) == {"fast"}
    path.write_text(PLAIN)
    assert await follow(profiles) == ()
    assert set(profiles) == {"plain"}


@pytest.mark.anyio
async def test_a_start_with_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text("fast: [")
    profiles = Profiles([path])
    (fault,) = await profiles.follow(servable)
    assert "not valid YAML" in fault
    assert dict(profiles) == {}
    path.write_text(FAST)
    assert await follow(profiles) == ()
    assert set(profiles) == {"fast"}


@pytest.mark.anyio
async def test_profiles_wait_for_the_vector_that_they_name(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(FAST + PLAIN)
    profiles = Profiles([path])
    await follow(profiles)
    before = profiles["fast"]
    steer = "{control: {steer: [{vector: calm}]}}"
    path.write_text(f"calm: {steer}\nfast: {steer}\nother: {{control: {{}}}}")
    assert await follow(profiles) == (
        "profile 'calm': unknown vector",
        "profile 'fast': unknown vector",
    )
    assert set(profiles) == {"fast", "other"}
    assert profiles["fast"] == before, "it stays as it was"
    assert await profiles.follow(lambda _: None) == ()
    assert set(profiles) == {"calm", "fast", "other"}
    assert profiles["fast"] == profiles["calm"]
