"""Cores of a CPU that serves: where there are few, all of them compute."""

import os
from argparse import Namespace
from collections.abc import MutableMapping

from steersman.engine.settings import NAP

FEW = 4
"""Fewer cores than this are few: the one that vLLM leaves to its engine core is missed."""
_BIND = "VLLM_CPU_OMP_THREADS_BIND"


def use_all(args: Namespace, environment: MutableMapping[str, str] = os.environ) -> None:
    """Have a worker compute on all cores that this process may use, if they are few.

    vLLM binds its threads to all but one, because its engine core never pauses while it waits; here
    it does. Several ranks share the cores as the operator says; so does one, if he says anything.

    Args:
        args: The parsed arguments of the engine.
        environment: Variables that the engine's processes get.

    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= FEW:
        return
    environment.setdefault(NAP, "1")
    ranks = (args.tensor_parallel_size, args.pipeline_parallel_size, args.data_parallel_size)
    if all(count == 1 for count in ranks):
        environment.setdefault(_BIND, ",".join(map(str, cores)))
