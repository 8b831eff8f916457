"""Short word problems about things someone has. Difficulty d takes d + 1 operations."""

from random import Random

from steersman.puzzles.tasks.program import Operation, ProgramPuzzle, first_in_range

_PEOPLE = {"Ana": "She", "Ben": "He", "Dee": "She", "Eva": "She", "Finn": "He", "Gus": "He"}
_THINGS = ("apples", "books", "cards", "coins", "pens", "shells")
_GAINS = ("buys {n} more", "finds {n} more", "gets {n} from {other}")
_LOSSES = ("gives {n} to {other}", "loses {n}", "sells {n}")
_LARGEST = 12
_MOST_BAGS = 5
_LARGEST_BAG = 9
_BAGS_SHARE = 0.25


def draw(rng: Random, difficulty: int) -> ProgramPuzzle:
    """One story in which nobody ever has less than nothing."""
    return first_in_range(lambda: _draw(rng, difficulty + 1))


def _draw(rng: Random, length: int) -> ProgramPuzzle:
    name, other = rng.sample(sorted(_PEOPLE), 2)
    thing = rng.choice(_THINGS)
    owned = rng.randint(2, _LARGEST)
    sentences = [f"{name} has {owned} {thing}."]
    operands = [owned]
    operations: list[Operation] = []
    while len(operations) < length:
        held = operations[-1].name if operations else owned
        step = f"r{len(operations)}"
        if length - len(operations) >= 2 and rng.random() < _BAGS_SHARE:
            bags, size = rng.randint(2, _MOST_BAGS), rng.randint(2, _LARGEST_BAG)
            event = f"buys {bags} bags of {size}"
            operands += [bags, size]
            operations.append(Operation(step, bags, "*", size))
            operations.append(Operation(f"r{len(operations)}", held, "+", step))
        else:
            sign, number = rng.choice("+-"), rng.randint(1, _LARGEST)
            event = rng.choice(_GAINS if sign == "+" else _LOSSES).format(n=number, other=other)
            operands.append(number)
            operations.append(Operation(step, held, sign, number))
        sentences.append(f"{_PEOPLE[name]} {event}.")
    sentences.append(f"How many {thing} does {name} have?")
    return ProgramPuzzle(" ".join(sentences), tuple(operands), tuple(operations))
