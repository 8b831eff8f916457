"""Trajectories: how they begin, run and end, and how their phases and answers are read."""
