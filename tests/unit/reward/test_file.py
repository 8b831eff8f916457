"""Rewards of an operator's file."""

from pathlib import Path

import pytest

from steersman.reward.file import RewardFileError, load
from steersman.reward.likelihood import Likelihood
from steersman.reward.verify import Verify


def test_built_in_rewards_need_no_file() -> None:
    rewards = load(None)
    assert {name: type(one) for name, one in rewards.items()} == {
        "likelihood": Likelihood,
        "verify": Verify,
    }
    assert rewards["verify"].options.see == "answer"


def test_a_file_of_rewards(tmp_path: Path) -> None:
    path = tmp_path / "rewards.yaml"
    path.write_text(
        "sure: {type: likelihood, by: entropy, see: all}\n"
        "verify: {type: verify, timeout: 5, max_batch: 8}\n"
        "short: {type: python, function: 'tests.unit.reward.test_function:words', needs: [top]}\n"
    )
    rewards = load(path)
    assert [*rewards] == ["likelihood", "verify", "sure", "short"]
    assert rewards["sure"].options.see == "all"
    assert (rewards["verify"].options.timeout, rewards["verify"].options.max_batch) == (5, 8)
    assert rewards["short"].needs == {"top"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- a", "expected a mapping from reward names to rewards"),
        ("A b: {type: verify}", "reward name 'A b'"),
        ("a: 1", "a: expected a mapping with a type"),
        ("a: {by: entropy}", "a: expected a mapping with a type"),
        ("a: {type: none}", "a: unknown type 'none'; known: likelihood, python, verify"),
        ("a: {type: [verify]}", r"a: unknown type \['verify'\]"),
        ("a: {type: likelihood, by: chance}", r"a\.by: "),
        ("a: {type: likelihood, function: 'a:b'}", r"a\.function: Extra"),
        ("a: {type: verify, see: thinking}", r"a\.see: "),
        ("a: {type: verify, timeout: 0}", r"a\.timeout: "),
        ("a: {type: verify, timeout: .nan}", r"a\.timeout: "),
        ("a: {type: verify, max_batch: 0}", r"a\.max_batch: "),
        ("a: {type: python}", r"a\.function: "),
        ("a: {type: python, function: 'no_such_module_here:f'}", "a: function .* No module named"),
        ("a: {type: python, function: 'os:sep'}", "a: function 'os:sep' is not callable"),
        ("a: {type: python, function: 'os:listdir', needs: [mood]}", r"a\.needs\.0: "),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rewards.yaml"
    path.write_text(text)
    with pytest.raises(RewardFileError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RewardFileError, match="cannot be read"):
        load(tmp_path / "none.yaml")
