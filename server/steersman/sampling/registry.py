"""Samplers that this server runs."""

import functools
from types import MappingProxyType
from typing import Any

from steersman.plugins import registered
from steersman.sampling.cautious import CautiousSampler
from steersman.sampling.sampler import Sampler

GROUP = "steersman.sampling"
"""Entry points of this group name `Sampler` classes of other packages."""

_BUILT_IN: tuple[type[Sampler[Any]], ...] = (CautiousSampler,)


@functools.cache
def samplers() -> MappingProxyType[str, Sampler[Any]]:
    """All samplers by the names of their methods."""
    return registered(GROUP, _BUILT_IN)
