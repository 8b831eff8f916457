"""The built-in reasoning model: its problems, its traces, its training and its measurement."""
