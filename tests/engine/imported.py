"""Imports of every engine process, made once in the process that they are forked from."""

import os

os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

from vllm import LLM, SamplingParams

import steersman.engine.controlled
import steersman.frontend.carrier
import steersman.trajectory.boundaries

__all__ = ["LLM", "SamplingParams", "steersman"]
