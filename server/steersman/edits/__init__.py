"""Edits of a model's weights: what they are, their files, and the arithmetic on weights."""
