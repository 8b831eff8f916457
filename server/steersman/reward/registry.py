"""Types of rewards that this server can make."""

import functools
from types import MappingProxyType
from typing import Any

from steersman import plugins
from steersman.reward.function import Function
from steersman.reward.likelihood import Likelihood
from steersman.reward.reward import Reward
from steersman.reward.verify import Verify

GROUP = "steersman.reward"
"""Entry points of this group name `Reward` classes of other packages."""

READY = ("likelihood", "verify")
"""Types that are there as rewards of the same names, without a file."""

_BUILT_IN: tuple[type[Reward[Any]], ...] = (Likelihood, Verify, Function)


@functools.cache
def kinds() -> MappingProxyType[str, type[Reward[Any]]]:
    """All types by their names."""
    return plugins.kinds(GROUP, _BUILT_IN, "type")
