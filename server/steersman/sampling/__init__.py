"""Samplers: ways to sample each trajectory, laid over a source, so that every search has them."""
