"""Keys, their file, their limits and their use."""
