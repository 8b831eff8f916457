"""Check of the installed vLLM, as commands make it before they import it."""

from steersman.console import fail
from steersman.engine.compat import version


def supported_vllm() -> None:
    """End the command if the installed vLLM is not one that Steersman works with."""
    if problem := version.refusal(version.SERVER):
        fail(problem)
