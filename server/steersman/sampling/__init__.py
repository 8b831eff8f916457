"""Samplers: sources of trajectories laid over a source, for every search alike."""
