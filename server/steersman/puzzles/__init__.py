"""The puzzles that the built-in reasoner solves: endless, graded, with exact verifiers."""
