"""The ring beside the HTTP server: the wrapped engine client, and whatever comes back from it."""
