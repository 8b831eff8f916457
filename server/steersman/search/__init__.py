"""Searches: which trajectories of a prompt to run, and which of them to return."""
