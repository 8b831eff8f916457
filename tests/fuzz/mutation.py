"""One value inside another replaced, taken away or added to: where sound requests turn odd."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzz import values

Path = tuple[str | int, ...]

_DEEPEST = 12
"""Deeper values are only changed as a whole."""


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The way to every value inside a value, outermost first, the value itself not among them."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if len(path) < _DEEPEST:
            yield from paths(inner, (*path, key))


def at(value: Any, path: Path) -> Any:
    """Value that the path leads to."""
    for key in path:
        value = value[key]
    return value


def replaced(value: Any, path: Path, by: Any) -> Any:
    """A copy with another value at the path."""
    changed = copy.deepcopy(value)
    at(changed, path[:-1])[path[-1]] = by
    return changed


def without(value: Any, path: Path) -> Any:
    """A copy without what is at the path."""
    changed = copy.deepcopy(value)
    del at(changed, path[:-1])[path[-1]]
    return changed


@st.composite
def mutated(draw: DrawFn, body: dict[str, Any], within: str | None = None) -> dict[str, Any]:
    """A body with one change.

    Args:
        draw: Of hypothesis.
        body: The body.
        within: Field that the change is in; None for anywhere.

    """
    start: Path = () if within is None else (within,)
    inner = at(body, start)
    known = [(*start, *path) for path in paths(inner)] or [start]
    kind = draw(st.sampled_from(("number", "number", "anything", "typed", "unknown", "none")))
    numeric = [path for path in known if _is_number(at(body, path))] if kind == "number" else []
    path = draw(st.sampled_from(numeric or known))
    if not path:
        return body
    if kind == "none":
        return without(body, path)
    if kind == "unknown":
        owner = at(body, path[:-1])
        if isinstance(owner, dict):
            return replaced(body, (*path[:-1], draw(values.texts())), draw(values.anything()))
    if kind == "typed":
        return replaced(body, path, draw(st.sampled_from(_retyped(at(body, path)))))
    by: SearchStrategy[Any] = values.numbers() if kind == "number" else values.anything()
    return replaced(body, path, draw(by))


@st.composite
def respelled(draw: DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """A body with some of its own fields in other types."""
    names = sorted(name for name, value in body.items() if isinstance(value, bool | int | float))
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, unique=True)) if names else []
    return body | {name: draw(st.sampled_from(_retyped(body[name]))) for name in chosen}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _retyped(value: Any) -> list[Any]:
    """The same value in other types: what a lax schema takes for it."""
    forms: list[Any] = [str(value), f" {value} ", None, [value], {"value": value}]
    if isinstance(value, bool):
        return [int(value), str(value).lower(), "yes" if value else "off", float(value), *forms]
    if isinstance(value, int):
        exact = float(value) if abs(value) < 2**53 else str(value)
        return [str(value), exact, f"{value}.0", bool(value), *forms]
    return forms
