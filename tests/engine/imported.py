"""Imports of every engine process, made once in the process that they are forked from."""

import os

os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

from tests.imported import vllm

__all__ = ["vllm"]
