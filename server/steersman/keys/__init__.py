"""Keys of clients: their scopes and limits, and what each of them uses."""
