"""Steersman: an OpenAI-compatible server that controls how a language model reasons."""

__version__ = "0.1.0"
