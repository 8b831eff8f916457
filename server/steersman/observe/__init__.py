"""Metrics for the operator."""
