"""Fixtures of all tests."""

from hypothesis import settings

# A busy machine is no failure: speed belongs to `benchmarks/`.
settings.register_profile("steersman", deadline=None)
settings.load_profile("steersman")
