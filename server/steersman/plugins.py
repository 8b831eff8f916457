"""Methods of a kind: those built in, and those of installed packages."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel


class Method(Protocol):
    """Something that is chosen by a literal among its fields: a request chooses by `method`."""

    spec: ClassVar[type[BaseModel]]


MethodT = TypeVar("MethodT", bound=Method)


def method_of(method: Method | type[Method], field: str = "method") -> str:
    """The name of a method: the one literal of a field of its spec."""
    annotation: Any = method.spec.model_fields[field].annotation
    (name,) = annotation.__args__
    return str(name)


def kinds(
    group: str, built_in: Sequence[type[MethodT]], field: str = "method"
) -> MappingProxyType[str, type[MethodT]]:
    """Classes of methods by their names.

    Args:
        group: Entry points of this group name classes of installed packages.
        built_in: The classes of this package.
        field: The field whose literal is the name.

    Raises:
        ValueError: Two methods have one name.

    """
    found: dict[str, type[MethodT]] = {}
    for kind in (*built_in, *(entry.load() for entry in entry_points(group=group))):
        name = method_of(kind, field)
        if name in found:
            raise ValueError(f"two methods of {group} are named {name!r}")
        found[name] = kind
    return MappingProxyType(found)


def registered(group: str, built_in: Sequence[type[MethodT]]) -> MappingProxyType[str, MethodT]:
    """Methods by their names, each class made once.

    Args:
        group: Entry points of this group name classes of installed packages.
        built_in: The classes of this package.

    Raises:
        ValueError: Two methods have one name.

    """
    return MappingProxyType({name: kind() for name, kind in kinds(group, built_in).items()})
