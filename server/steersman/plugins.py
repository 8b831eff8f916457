"""Methods of a kind: those built in, and those of installed packages."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel


class Method(Protocol):
    """Something that a request chooses by the literal `method` of its fields."""

    spec: ClassVar[type[BaseModel]]


MethodT = TypeVar("MethodT", bound=Method)


def method_of(method: Method) -> str:
    """The name of a method: the one literal of its spec's field `method`."""
    annotation: Any = method.spec.model_fields["method"].annotation
    (name,) = annotation.__args__
    return str(name)


def registered(group: str, built_in: Sequence[type[MethodT]]) -> MappingProxyType[str, MethodT]:
    """Methods by their names.

    Args:
        group: Entry points of this group name classes of installed packages.
        built_in: The classes of this package.

    Raises:
        ValueError: Two methods have one name.

    """
    found: dict[str, MethodT] = {}
    for kind in (*built_in, *(entry.load() for entry in entry_points(group=group))):
        method = kind()
        name = method_of(method)
        if name in found:
            raise ValueError(f"two methods of {group} are named {name!r}")
        found[name] = method
    return MappingProxyType(found)
