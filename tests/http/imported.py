"""Imports of every server, made once in the process that they are forked from."""

import os

os.environ["VLLM_LOGGING_LEVEL"] = "WARNING"

import uvloop
import vllm.v1.engine.core
import vllm.v1.executor.multiproc_executor
import vllm.v1.worker.cpu_worker
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup

import steersman.app
import steersman.arguments
import steersman.engine.controlled
import steersman.observe.logs

__all__ = ["cli_env_setup", "steersman", "uvloop", "vllm"]
