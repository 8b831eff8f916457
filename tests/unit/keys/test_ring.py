"""The keys of a server, by where they come from."""

import pytest

from steersman.keys.file import KeyFileError
from steersman.keys.key import Key, Scope, digest
from steersman.keys.ring import Keys

ALICE = Key("alice", digest("sk-alice"))
ROOT = Key("root", digest("sk-root"), frozenset({Scope.ADMIN}))


def test_a_key_is_found_by_all_of_it() -> None:
    keys = Keys(["one", "two"], "ädmin", [ALICE])
    for given, name in [
        ("one", "api-key"),
        ("two", "api-key-2"),
        ("ädmin".encode().decode("latin-1"), "admin-api-key"),  # as headers are decoded
        ("sk-alice", "alice"),
    ]:
        found = keys.find(given)
        assert found is not None
        assert found.name == name
    for given in ("", "On", "one ", "onetwo", "sk-alicf", digest("one").hex()):
        assert keys.find(given) is None


@pytest.mark.parametrize(
    ("keys", "closed", "has_admin", "scoped"),
    [
        (Keys(), False, False, False),
        (Keys(["one"]), True, False, False),
        (Keys(admin_key="root"), False, True, True),
        (Keys(["one"], "root"), True, True, True),
        (Keys(filed=[ALICE]), True, False, True),
        (Keys(filed=[ROOT]), True, True, True),
    ],
    ids=["none", "one", "admin alone", "both", "file", "file with an admin"],
)
def test_what_is_guarded(keys: Keys, closed: bool, has_admin: bool, scoped: bool) -> None:
    assert (keys.closed, keys.has_admin, keys.scoped) == (closed, has_admin, scoped)


def test_the_admin_key_of_the_command_line_may_do_all() -> None:
    found = Keys(["one"], "root").find("root")
    assert found is not None
    assert found.scopes == {Scope.USE, Scope.ADMIN}


def test_one_key_given_twice_is_one() -> None:
    assert [key.name for key in Keys(["one", "one", "two"])] == ["api-key", "api-key-2"]


@pytest.mark.parametrize(
    ("filed", "reason"),
    [
        ([ALICE, Key("alice", digest("else"))], "two keys have the name 'alice'"),
        ([ALICE, Key("bob", digest("sk-alice"))], "'alice' and 'bob' are the same key"),
        ([Key("bob", digest("one"))], "'api-key' and 'bob' are the same key"),
    ],
)
def test_keys_that_cannot_be_told_apart(filed: list[Key], reason: str) -> None:
    with pytest.raises(KeyFileError, match=reason):
        Keys(["one"], filed=filed)
