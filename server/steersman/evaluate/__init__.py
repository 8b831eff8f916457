"""Evaluation of controls: problems asked over HTTP as a user would, and honest statistics."""
