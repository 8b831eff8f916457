"""Needs of methods: things that a search or a sampler cannot do without."""

from enum import StrEnum


class Need(StrEnum):
    """Something that a method cannot do without; conflicts with other fields follow from it."""

    SAMPLING = "sampling"
    """Trajectories that differ: several of them make no sense at temperature 0."""
    FORKS = "forks"
    """Trajectories that go on after some tokens of another one."""
    RAW = "raw"
    """Measurements of the model's own distributions."""
    PROCESSED = "processed"
    """Measurements of the distributions that tokens are really drawn from."""
    EXACT = "exact"
    """Tokens drawn from the model's distribution at one temperature, which nothing else changes."""
