"""Steersman's own log lines, in the manner of vLLM's."""

import logging


def configure() -> None:
    """Send the log of the `steersman` packages to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [steersman] %(message)s"))
    logger = logging.getLogger("steersman")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
