"""The ring that touches vLLM: the wrapped engine client and what is read from its configuration."""
