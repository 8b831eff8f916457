"""Search policies: which lines to run, and which of them to return."""
