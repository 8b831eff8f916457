"""Vectors, as the store of a server keeps them."""

from steersman import vectors
from steersman.artifacts.artifact import Kind
from steersman.vectors import file
from steersman.vectors.vector import check

VECTORS = Kind("vector", (".safetensors", ".gguf"), vectors.parse, file.write, check)
