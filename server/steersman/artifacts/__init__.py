"""Vectors and edits alike: their files, and the store that a server keeps them in."""
