"""How one line of text is produced, and how it is read."""
