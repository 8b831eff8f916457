"""Values of the chart, merged as Helm merges them."""

from typing import Any


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Lay values over others, in place: mappings key by key, all else as a whole."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
