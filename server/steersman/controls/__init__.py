"""Life of every control of a request: planned, carried to the engine, reported and counted."""
