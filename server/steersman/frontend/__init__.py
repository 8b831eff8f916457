"""The ring beside the HTTP server: the wrapped engine client, and the engine's answers."""
