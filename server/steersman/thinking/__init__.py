"""Governing of the thinking phase: a request's instructions, and the outcome."""
