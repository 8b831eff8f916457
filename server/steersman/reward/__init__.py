"""Rewards: numbers that say how good a response is, for searches to choose by."""
