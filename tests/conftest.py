"""Fixtures of all tests."""

import os

from hypothesis import settings

# No test may depend on a hub, or wait for one.
os.environ["HF_HUB_OFFLINE"] = "1"

# A busy machine is no failure: speed belongs to `benchmarks/`.
settings.register_profile("steersman", deadline=None)
settings.load_profile("steersman")
