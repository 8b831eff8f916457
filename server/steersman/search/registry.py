"""Searches that this server runs."""

import functools
from types import MappingProxyType
from typing import Any

from steersman.plugins import registered
from steersman.search.align import AlignPolicy
from steersman.search.first_finish import FirstFinishPolicy
from steersman.search.majority import MajorityPolicy
from steersman.search.policy import Policy

GROUP = "steersman.search"
"""Entry points of this group name `Policy` classes of other packages."""

_BUILT_IN: tuple[type[Policy[Any]], ...] = (
    FirstFinishPolicy,
    MajorityPolicy,
    AlignPolicy,
)


@functools.cache
def policies() -> MappingProxyType[str, Policy[Any]]:
    """All policies by the names of their methods."""
    return registered(GROUP, _BUILT_IN)
