"""The ring that runs inside vLLM's processes: workers, and the engine core with its scheduler."""
