"""Ways to branch against each other: the tree, the comparison, its section."""

import asyncio
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest
from evals.evidence import apart
from evals.evidence.branching import Branching, branching_figure, branching_section
from evals.evidence.selection import Response
from evals.evidence.tree import Branch, Drawn, grow
from pydantic import TypeAdapter

VOCABULARY, END, LONGEST = 6, 0, 12


class Chances:
    """A made-up model, whose distributions and draws are functions of the tokens before."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def next(self, prefix: Sequence[int], branch: int) -> tuple[int, float, int]:
        """The token that a branch draws after a prefix, the entropy, the likeliest other one."""
        at = random.Random(f"{self._seed} {list(prefix)}")
        weights = [at.expovariate(1) ** 3 for _ in range(VOCABULARY)]
        chances = [weight / sum(weights) for weight in weights]
        entropy = -sum(chance * math.log(chance) for chance in chances)
        drawing = random.Random(f"{self._seed} {branch} {list(prefix)}")
        (token,) = drawing.choices(range(VOCABULARY), weights)
        other = max((id_ for id_ in range(VOCABULARY) if id_ != token), key=chances.__getitem__)
        return token, entropy, other

    async def rest(self, prefix: tuple[int, ...], branch: int) -> Drawn:
        found = []
        tokens = list(prefix)
        while tokens[-1:] != [END] and len(tokens) < LONGEST:
            found.append(self.next(tokens, branch))
            tokens.append(found[-1][0])
        return (
            Drawn(*(tuple(column) for column in zip(*found, strict=True)))
            if found
            else Drawn((), (), ())
        )


def side_by_side(chances: Chances, threshold: float, most: int) -> list[Branch]:
    """The published way: all branches grow by a token at a time."""
    branches: list[list[int]] = [[]]
    own = [0]
    for step in range(LONGEST):
        for number in range(len(branches)):
            tokens = branches[number]
            if len(tokens) != step or tokens[-1:] == [END]:
                continue
            token, entropy, other = chances.next(tokens, number)
            if entropy > threshold and len(branches) < most:
                branches.append([*tokens, other])
                own.append(1)
            tokens.append(token)
            own[number] += 1
    return [Branch(tuple(tokens), count) for tokens, count in zip(branches, own, strict=True)]


@pytest.mark.parametrize("threshold", [0.0, 0.8, 1.2, 2.0])
@pytest.mark.parametrize("most", [1, 3, 8])
def test_a_tree_is_that_of_branches_that_grow_side_by_side(threshold: float, most: int) -> None:
    sizes = set()
    for seed in range(60):
        chances = Chances(seed)
        tree = asyncio.run(grow(chances.rest, threshold, most))
        assert tree == side_by_side(chances, threshold, most)
        sizes.add(len(tree))
    assert max(sizes) == (1 if threshold == 2.0 else most)


def test_a_smaller_tree_is_the_beginning_of_a_larger_one() -> None:
    chances = Chances(3)
    large = asyncio.run(grow(chances.rest, 0.8, 8))
    assert asyncio.run(grow(chances.rest, 0.8, 3)) == large[:3]


def test_the_likeliest_other_token_is_not_the_one_that_was_drawn() -> None:
    choice = {
        "token_ids": [7, 9],
        "logprobs": {
            "top_logprobs": [
                {"token_id:7": -0.1, "token_id:3": -3.0},
                {"token_id:9": -2.5, "token_id:1": -0.9, "token_id:2": -0.7},
            ]
        },
    }
    found = apart.rest(choice, [(7, -0.1, 0.3), (9, -2.5, 1.4)])
    assert found == Drawn((7, 9), (0.3, 1.4), (3, 2))
    with pytest.raises(AssertionError):
        apart.rest(choice, [(7, -0.1, 0.3), (8, -2.5, 1.4)])


SEVEN, EIGHT = Response("7", True), Response("8", False)


def made_up_branching() -> Branching:
    """Two problems: the first is right in every way, the second only by a vote and with caution."""
    plain = [
        apart.Taken([SEVEN] * 8, [10] * 8),
        apart.Taken([EIGHT, *[SEVEN] * 7], [10] * 8),
    ]
    cautious = [apart.Taken([SEVEN], [30]), apart.Taken([SEVEN], [34])]
    tree = [apart.Taken([SEVEN, SEVEN], [10, 4]), apart.Taken([EIGHT], [12])]
    return apart.compare(
        apart.together(plain, 8),
        apart.together(cautious, 1),
        apart.together(tree, 8),
        np.array([[0.0]]),
        512.0,
        0.5,
    )


def test_methods_may_spend_what_a_cautious_response_spends() -> None:
    found = made_up_branching()
    assert (found.problems, found.beam_problems, found.threshold) == (2, 1, 0.5)
    assert [(pair.ours, pair.theirs, pair.points.value) for pair in found.pairs] == [
        ("cautious", "single", 0.5),
        ("cautious", "majority 3", 0.0),
        ("cautious", "branches kept apart, 8", 0.5),
        ("branches kept apart, 8", "majority 3", -0.5),
        ("branches kept apart, 8", "majority 8", -0.5),
    ]
    assert [(pair.theirs, pair.points.value) for pair in found.beam_pairs] == [
        ("single", -1.0),
        ("cautious", -1.0),
    ]
    points = {
        name: [(point.size, point.accuracy.value, point.sampled_tokens) for point in of]
        for name, of in found.methods.items()
    }
    assert points == {
        "majority": [(1, 0.5, 10.0), (2, 0.5, 20.0), (4, 1.0, 40.0), (8, 1.0, 80.0)],
        "cautious": [(1, 1.0, 32.0)],
        "branches kept apart": [(1, 0.5, 11.0), (2, 0.5, 13.0), (4, 0.5, 13.0), (8, 0.5, 13.0)],
        "beam search of width 4": [(4, 0.0, 512.0)],
    }


def test_the_section_has_every_method_and_pair() -> None:
    found = made_up_branching()
    section = branching_section(found, "apart.png")
    for pair in (*found.pairs, *found.beam_pairs):
        assert f"- {pair.ours} against {pair.theirs}: " in section
    rows = [line for line in section.split("\n") if line.startswith("| ")]
    assert len(rows) == 2 + sum(map(len, found.methods.values()))
    assert "| cautious | 1 | 100.0 % | 32 |" in rows
    assert "above 0.5 nats" in section
    assert len(branching_figure(found).axes) == 1


def test_it_survives_its_file() -> None:
    written = json.dumps(asdict(made_up_branching()))
    assert TypeAdapter(Branching).validate_json(written) == made_up_branching()
