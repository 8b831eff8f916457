"""Imports of every server, made once in the process that they are forked from."""

import os

os.environ["VLLM_LOGGING_LEVEL"] = "WARNING"

import uvloop
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup

import steersman.app
import steersman.arguments
import steersman.observe.logs
from tests.imported import vllm

__all__ = ["cli_env_setup", "steersman", "uvloop", "vllm"]
